"""Engine flags: behaviours of the replay core that changed once histories existed.

An execution records the flags of its start and keeps them for life, so that its replay behaves as its first run did. A flag is
never reused, and is recorded only where the hub's format level says that every worker knows it (R12). This first version has
none; an execution that states one was started by a newer build, and is held here.
"""

from collections.abc import Iterable, Mapping

FLAGS: Mapping[int, int] = {}
"""Every flag that this build knows, with the format level that brought it."""


def flags_at(level: int) -> tuple[int, ...]:
    """What a new execution records in a hub of that level."""
    return tuple(sorted(flag for flag, since in FLAGS.items() if since <= level))


def unknown_flags(flags: Iterable[int]) -> list[int]:
    return [flag for flag in flags if flag not in FLAGS]
