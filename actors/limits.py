"""Limits of instances and of their code, each with its unit in its name. Beyond one: a clear error, never silent loss."""

from collections.abc import Mapping
from dataclasses import dataclass

from perdure.schemas.codec import ITEMS_MAX

HISTORY_LIMIT_EXCEEDED = "HistoryLimitExceeded"
"""The failure type of an instance whose history grew too long: the engine's decision, which no code made."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`payload_bytes_max` stays below the topic's `max.message.bytes`, since tags, names and the envelope come on top of it."""

    payload_bytes_max: int = 1_000_000
    history_events_max: int = 50_000
    decisions_per_turn_max: int = 10_000
    decided_bytes_per_turn_max: int = 50_000_000
    tasks_pending_max: int = 10_000
    instance_id_chars_max: int = 200
    event_name_chars_max: int = 200
    definition_name_chars_max: int = 500
    request_id_chars_max: int = 200
    client_id_chars_max: int = 200
    start_events_max: int = 1_000
    tags_max: int = 64
    tag_chars_max: int = 256
    tags_bytes_max: int = 16_384
    reason_chars_max: int = 4_000
    turn_seconds_max: float = 5.0

    def __post_init__(self) -> None:
        if self.start_events_max > ITEMS_MAX or self.tags_max > ITEMS_MAX:
            raise ValueError(f"a message carries at most {ITEMS_MAX:,} events or tags: {self}")


DEFAULT_LIMITS = Limits()
ENGINE_REQUEST = "/"
"""What the ids of the engine's own requests begin with, and those of no other: what was taken once under an id is not taken again."""


def check_instance_id(instance_id: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise ValueError unless `instance_id` can name an instance."""
    _check_name("an instance id", instance_id, limits.instance_id_chars_max)


def check_new_instance_id(instance_id: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """The same for one that is asked for from outside, which nobody could see were it blank. Logs may hold older ones that are."""
    check_instance_id(instance_id, limits)
    if not instance_id.strip():
        raise ValueError(f"an instance id must not be blank: {instance_id!r}")


def check_event_name(name: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise ValueError unless `name` can name an external event."""
    _check_name("an event name", name, limits.event_name_chars_max)


def check_definition_name(name: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise ValueError unless `name` can name an orchestration or activity."""
    _check_name("the name of an orchestration or activity", name, limits.definition_name_chars_max)


def check_request_id(request_id: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise ValueError unless a requester may call its request so. Empty: the request has no id."""
    if request_id:
        _check_name("a request id", request_id, limits.request_id_chars_max)
    if request_id.startswith(ENGINE_REQUEST):
        raise ValueError(f"a request id does not begin with {ENGINE_REQUEST!r}: those are the engine's own")


def check_client_id(client_id: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise ValueError unless a client may call itself so."""
    _check_name("a client id", client_id, limits.client_id_chars_max)


def check_start_events(count: int, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise ValueError where a start brings too many events."""
    if count > limits.start_events_max:
        raise ValueError(
            f"a start brings at most {limits.start_events_max} events, this one {count}; raise the others later"
        )


def check_name(what: str, name: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise ValueError unless `name` can name a patch or an exception type; `what` says which."""
    _check_name(what, name, limits.definition_name_chars_max)


def check_tags(tags: Mapping[str, str], limits: Limits = DEFAULT_LIMITS) -> dict[str, str]:
    """A copy of `tags`. Raises ValueError unless an instance, or a call, can have them."""
    if len(tags) > limits.tags_max:
        raise ValueError(f"an instance has at most {limits.tags_max} tags, found {len(tags)}")
    size = 0
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ValueError(f"tags are strings by strings, found {key!r:.60}: {value!r:.60}")
        if not 0 < len(key) <= limits.tag_chars_max or len(value) > limits.tag_chars_max:
            raise ValueError(
                f"a tag's key has 1 to {limits.tag_chars_max} characters, its value at most as many: {key!r:.60}"
            )
        if not key.isprintable() or not value.isprintable():
            raise ValueError(f"tags must be printable, without control characters: {key!r:.60}: {value!r:.60}")
        size += len(key.encode()) + len(value.encode())
    if size > limits.tags_bytes_max:
        raise ValueError(
            f"the tags of an instance have at most {limits.tags_bytes_max} bytes in all, these have {size}"
        )
    return dict(tags)


def check_reason(reason: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise TypeError or ValueError for a reason that is no text, or no sentence any more."""
    if not isinstance(reason, str):
        raise TypeError(f"a reason is text, not {reason!r:.60}")
    if len(reason) > limits.reason_chars_max:
        raise ValueError(f"a reason has at most {limits.reason_chars_max} characters, this one {len(reason)}")
    if not is_unicode(reason):
        raise ValueError(f"a reason with a lone surrogate, which UTF-8 cannot hold: {reason!r:.60}")


def is_unicode(text: str) -> bool:
    """False for text with a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_name(what: str, name: str, chars_max: int) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{what} is a string, not {name!r:.60}")
    if not name:
        raise ValueError(f"{what} must not be empty")
    if len(name) > chars_max:
        raise ValueError(f"{what} has at most {chars_max} characters; this one has {len(name)}: {name[:40]!r}...")
    if not name.isprintable():
        raise ValueError(f"{what} must be printable, without control characters: {name!r}")
