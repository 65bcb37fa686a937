"""The header of an instance: all that `get` and `list` show of it, without its history.

Its *progress* is what every turn moves: when it was updated, how many events and turns there are. All the rest is its *standing*, which
few turns change, so that few have to encode it.
"""

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from perdure.actors.executor import unknown_event
from perdure.actors.instance import InstanceState
from perdure.schemas.events import NO_TAGS, NULL, Failure, Status
from perdure.schemas.frozen import dataclass

from .keys import ended_key
from .ports import Change, Store, StoreCorrupt

HEADER_FORMAT = 2
# A longer input is stored beside the header, once, so that no turn writes it again.
INPUT_INLINE_BYTES_MAX = 512
_UNTAGGED = 0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """One instance as a reader sees it. Payloads are JSON text in UTF-8; an empty `held_kind` means that it is not held."""

    instance_id: str
    name: str
    status: Status
    created_ms: int
    updated_ms: int
    execution_id: str
    generation: int = 1
    input: bytes = NULL
    result: bytes = NULL
    failure: Failure | None = None
    custom_status: bytes = NULL
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    parent_instance_id: str = ""
    held_kind: str = ""
    held_reason: str = ""
    history_events: int = 0
    turns: int = 0


def header_of(state: InstanceState, held_kind: str = "", held_reason: str = "") -> InstanceHeader:
    """The header of an instance in `state`; to be held is not part of that, so it is said apart, but for one with an event that
    this build cannot read: nothing can be decided for it, asked or not (R12)."""
    started = state.started
    if not held_kind and state.unknown_kind and not state.status.terminal:
        unknown = unknown_event(state.unknown_kind)
        held_kind, held_reason = unknown.kind, unknown.reason
    return InstanceHeader(
        state.instance_id,
        started.name,
        state.visible_status,
        started.created_at_ms,
        state.updated_at_ms,
        started.execution_id,
        started.generation,
        started.input,
        state.result,
        state.failure,
        state.custom_status,
        started.tags,
        started.parent.instance_id if started.parent else "",
        held_kind,
        held_reason,
        state.events_count,
        state.turns_count,
    )


def header_key(instance_id: str) -> bytes:
    return b"h" + instance_id.encode()


def input_key(instance_id: str) -> bytes:
    return b"p" + instance_id.encode()


def header_changes(old: InstanceHeader | None, new: InstanceHeader | None) -> list[Change]:
    """What to write so that the store has `new` where it had `old`; both are of one instance."""
    if new is None:
        return [] if old is None else _gone(old)
    changes: list[Change] = [(header_key(new.instance_id), encode_header(new))]
    if old is None or old.input != new.input:
        if len(new.input) > INPUT_INLINE_BYTES_MAX:
            changes.append((input_key(new.instance_id), new.input))
        elif old is not None and len(old.input) > INPUT_INLINE_BYTES_MAX:
            changes.append((input_key(new.instance_id), None))
    was, now = _end_of(old), _end_of(new)
    if was is not None and was != now:
        changes.append((was, None))
    if now is not None and was != now:
        changes.append((now, b""))
    return changes


def _gone(old: InstanceHeader) -> list[Change]:
    changes: list[Change] = [(header_key(old.instance_id), None)]
    if len(old.input) > INPUT_INLINE_BYTES_MAX:
        changes.append((input_key(old.instance_id), None))
    if (end := _end_of(old)) is not None:
        changes.append((end, None))
    return changes


def _end_of(header: InstanceHeader | None) -> bytes | None:
    """Instances are kept in the order in which they ended as well, for those who forget them (R15)."""
    if header is None or not header.status.terminal:
        return None
    return ended_key(header.updated_ms, header.instance_id)


def read_header(store: Store, instance_id: str) -> InstanceHeader | None:
    """The header in the store, its input included. Raises StoreCorrupt."""
    value = store.get(header_key(instance_id))
    if value is None:
        return None
    header, inline = decode_header(instance_id, value)
    if inline:
        return header
    beside = store.get(input_key(instance_id))
    if beside is None:
        raise StoreCorrupt(f"the input of {instance_id!r} is not beside its header")
    return replace(header, input=beside)


def stands(header: InstanceHeader, state: InstanceState) -> bool:
    """Whether a header's progress is all that differs from that of an instance in `state`, which is not held."""
    return (
        not state.status.terminal
        and header.status == state.visible_status
        and header.execution_id == state.started.execution_id
        and header.custom_status == state.custom_status
        and not header.held_kind
        and not state.unknown_kind
    )


def progress_change(standing: bytes, state: InstanceState) -> Change:
    """What to write of an instance in `state` where its standing is as it was."""
    value = _join(state.updated_at_ms, state.events_count, state.turns_count, standing)
    return header_key(state.instance_id), value


def encode_header(header: InstanceHeader) -> bytes:
    """The header as the store keeps it: a local format, the version first; without an input that is too long for it."""
    return _join(header.updated_ms, header.history_events, header.turns, encode_standing(header))


def _join(updated_ms: int, events: int, turns: int, standing: bytes) -> bytes:
    return b"[%d,%d,%d,%d,%b" % (HEADER_FORMAT, updated_ms, events, turns, standing)


def encode_standing(header: InstanceHeader) -> bytes:
    """All of a header but its progress, as the end of a JSON array."""
    inline = len(header.input) <= INPUT_INLINE_BYTES_MAX
    return orjson.dumps(
        [
            header.name,
            int(header.status),
            header.created_ms,
            header.execution_id,
            header.generation,
            header.input.decode() if inline else None,
            _text(header.result),
            _failure_fields(header.failure),
            _text(header.custom_status),
            dict(header.tags) if header.tags else _UNTAGGED,
            header.parent_instance_id,
            header.held_kind,
            header.held_reason,
        ]
    )[1:]


def decode_header(instance_id: str, value: bytes) -> tuple[InstanceHeader, bool]:
    """The reverse; False where the input stands beside the header, and is null here. Raises StoreCorrupt."""
    try:
        return _decode_header(instance_id, orjson.loads(value))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise StoreCorrupt(f"the header of {instance_id!r} is not what this build writes: {error!r}") from error


def _decode_header(instance_id: str, fields: list[Any]) -> tuple[InstanceHeader, bool]:
    if fields[0] != HEADER_FORMAT:
        raise ValueError(f"format {fields[0]}; this build reads {HEADER_FORMAT}")
    _, updated_ms, events, turns, name, status, created_ms, *rest = fields
    execution_id, generation, input_, result, failure, custom_status, tags, parent, held_kind, held_reason = rest
    header = InstanceHeader(
        instance_id,
        name,
        Status(status),
        created_ms,
        updated_ms,
        execution_id,
        generation,
        NULL if input_ is None else input_.encode(),
        _payload(result),
        _failure(failure),
        _payload(custom_status),
        NO_TAGS if tags == _UNTAGGED else tags,
        parent,
        held_kind,
        held_reason,
        events,
        turns,
    )
    for at, kind in _KINDS:
        if type(fields[at]) is not kind:  # true is an int, too
            raise TypeError(f"field {at}: {fields[at]!r:.60}")
    _check_tags(tags)
    return header, input_ is not None


# What is shown without being looked at again.
_KINDS = (
    *((at, int) for at in (1, 2, 3, 6, 8)),
    *((at, str) for at in (4, 7, 14, 15, 16)),
)


def _check_tags(tags: object) -> None:
    if tags != _UNTAGGED and not (isinstance(tags, dict) and all(type(value) is str for value in tags.values())):
        raise TypeError(f"tags: {tags!r:.60}")


def header_view(header: InstanceHeader, partition: int, as_of: int) -> dict[str, Any]:
    """The instance as get, wait and list answer it, to be dumped by orjson: payloads are `orjson.Fragment`s, untouched."""
    return {
        "instance_id": header.instance_id,
        "name": header.name,
        "status": header.status.name,
        "created_at": iso_time(header.created_ms),
        "updated_at": iso_time(header.updated_ms),
        "execution_id": header.execution_id,
        "generation": header.generation,
        "input": orjson.Fragment(header.input),
        "result": orjson.Fragment(header.result),
        "failure": failure_view(header.failure),
        "custom_status": orjson.Fragment(header.custom_status),
        "tags": dict(header.tags),
        "parent_instance_id": header.parent_instance_id or None,
        "held": {"kind": header.held_kind, "reason": header.held_reason} if header.held_kind else None,
        "history_events": header.history_events,
        "partition": partition,
        "as_of": as_of,
    }


def failure_view(failure: Failure | None) -> dict[str, Any] | None:
    """A failure as JSON shows it, with its causes inside."""
    if failure is None:
        return None
    return {
        "type": failure.type,
        "message": failure.message,
        "stack": failure.stack,
        "cause": failure_view(failure.cause),
        "retriable": failure.retriable,
    }


def iso_time(time_ms: int) -> str:
    """ISO 8601, UTC, milliseconds: 2026-01-02T03:04:05.678Z."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{_iso_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=64)
def _iso_second(seconds: int) -> str:
    """Of many that are listed or end together, most are of a few seconds."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat(timespec="seconds").removesuffix("+00:00")


def _text(payload: bytes) -> str | None:
    return None if payload == NULL else payload.decode()


def _payload(text: str | None) -> bytes:
    return NULL if text is None else text.encode()


def _failure_fields(failure: Failure | None) -> list[Any] | None:
    if failure is None:
        return None
    cause = _failure_fields(failure.cause)
    return [failure.type, failure.message, failure.stack, cause, failure.retriable, failure.details.decode()]


def _failure(fields: list[Any] | None) -> Failure | None:
    if fields is None:
        return None
    type_, message, stack, cause, retriable, details = fields
    return Failure(type_, message, stack, _failure(cause), retriable, details.encode())
