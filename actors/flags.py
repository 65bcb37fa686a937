"""Engine flags: behaviours of the replay core that changed once histories existed.

An execution keeps the flags of its start for life, so that its replay behaves as its first run did. A flag is never reused.
This first version has none; an execution that states one was started by a newer build, and is held here.
"""

from collections.abc import Iterable, Mapping

FLAGS: Mapping[int, str] = {}
CURRENT: tuple[int, ...] = tuple(FLAGS)
"""What a new execution records."""


def unknown_flags(flags: Iterable[int]) -> list[int]:
    return [flag for flag in flags if flag not in FLAGS]
