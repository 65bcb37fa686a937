"""Limits of instances and of their code, each with its unit in its name. Beyond one: a clear error, never silent loss."""

from dataclasses import dataclass

HISTORY_LIMIT_EXCEEDED = "HistoryLimitExceeded"
"""The failure type of an instance whose history grew too long: the engine's decision, which no code made."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`payload_bytes_max` stays below the topic's `max.message.bytes`, since the envelope comes on top of it."""

    payload_bytes_max: int = 1_000_000
    history_events_max: int = 50_000
    history_events_warn: int = 10_000
    decisions_per_turn_max: int = 10_000
    tasks_pending_max: int = 10_000
    instance_id_chars_max: int = 200
    event_name_chars_max: int = 200
    turn_seconds_max: float = 2.0


DEFAULT_LIMITS = Limits()


def check_instance_id(instance_id: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise ValueError unless `instance_id` can name an instance."""
    _check_name("an instance id", instance_id, limits.instance_id_chars_max)


def check_event_name(name: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise ValueError unless `name` can name an external event."""
    _check_name("an event name", name, limits.event_name_chars_max)


def _check_name(what: str, name: str, chars_max: int) -> None:
    if not name:
        raise ValueError(f"{what} must not be empty")
    if len(name) > chars_max:
        raise ValueError(f"{what} has at most {chars_max} characters; this one has {len(name)}: {name[:40]!r}...")
    if not name.isprintable():
        raise ValueError(f"{what} must be printable, without control characters: {name!r}")
