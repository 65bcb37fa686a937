"""Comparing decisions: what the code decides now against what history says that it decided then."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import orjson

from perdure.schemas import events as ev
from perdure.schemas.events import Failure, HistoryEvent

# What makes a decision the same decision. Inputs may differ: the recorded ones hold.
_SAME: dict[type[Any], Callable[[Any], Any]] = {
    ev.TaskScheduled: attrgetter("task_id", "name"),
    ev.TaskCanceled: attrgetter("task_id"),
    ev.SubOrchestrationInstanceCreated: attrgetter("task_id", "name", "instance_id"),
    ev.TimerCreated: attrgetter("task_id"),
    ev.TimerCanceled: attrgetter("task_id"),
    ev.EventSent: attrgetter("task_id", "instance_id", "name"),
    ev.CustomStatusSet: lambda _: None,
    ev.ExecutionCompleted: attrgetter("status"),
}
DECISIONS = frozenset({*_SAME, ev.PatchMarked})
_CALLS = (ev.TaskScheduled, ev.SubOrchestrationInstanceCreated)
_PAYLOADS = frozenset({"input", "result", "value", "details"})


def find_divergence(recorded: Sequence[HistoryEvent], decided: Sequence[HistoryEvent], *, strict: bool) -> str | None:
    """Say where the code decided otherwise than history, or None. Patch markers are answers, not decisions, and left out:
    code that no longer asks `ctx.patched` agrees with a history in which it did."""
    then = [event for event in recorded if type(event) is not ev.PatchMarked]
    now = [event for event in decided if type(event) is not ev.PatchMarked]
    for position, (expected, found) in enumerate(zip(then, now, strict=False), 1):
        if expected is found or _agree(expected, found, strict=strict):
            continue
        return f"decision {position}: history has {_describe(expected)}, the code decided {_describe(found, expected)}"
    if len(then) > len(now):
        return f"decision {len(now) + 1}: history has {_describe(then[len(now)])}, the code decided nothing more"
    if len(now) > len(then):
        return f"decision {len(then) + 1}: history has nothing more, the code decided {_describe(now[len(then)])}"
    return None if strict else _find_reordered(then, now)


def _find_reordered(then: Sequence[HistoryEvent], now: Sequence[HistoryEvent]) -> str | None:
    """Inputs may change, but calls that changed places would each get another one's result."""
    changed: dict[tuple[type[Any], str], list[int]] = {}
    for at, (expected, found) in enumerate(zip(then, now, strict=True)):
        if isinstance(expected, _CALLS) and isinstance(found, _CALLS) and expected.input != found.input:
            changed.setdefault((type(expected), expected.name), []).append(at)
    for places in changed.values():
        before, after = ([_input(events[at]) for at in places] for events in (then, now))
        if sorted(before) == sorted(after):
            at = places[0]
            return (
                f"decision {at + 1}: history has {_describe(then[at])}, the code decided {_describe(now[at], then[at])}; it is the "
                "same calls in another order. What comes from a set has no order of its own: iterate over sorted(...)"
            )
    return None


def _input(event: Any) -> bytes:
    data: bytes = event.input
    return data


def _agree(expected: HistoryEvent, found: HistoryEvent, *, strict: bool) -> bool:
    kind = type(expected)
    if kind is not type(found) or _SAME[kind](expected) != _SAME[kind](found):
        return False
    return not strict or _differing(expected, found) is None


def _differing(expected: HistoryEvent, found: HistoryEvent) -> str | None:
    """The first field that differs. Payloads are compared as JSON; of failures, what is the same on every machine."""
    for name in expected.__dataclass_fields__:
        then, now = getattr(expected, name), getattr(found, name)
        if then == now:
            continue
        if name in _PAYLOADS and _same_json(then, now):
            continue
        if name == "failure" and then is not None and now is not None and _same_failure(then, now):
            continue
        return name
    return None


def _same_failure(then: Failure, now: Failure) -> bool:
    return (then.type, then.message, then.retriable) == (now.type, now.message, now.retriable)


def _same_json(then: bytes, now: bytes) -> bool:
    """Equal but for blanks and the order of an object's keys."""
    try:
        return bool(orjson.loads(then) == orjson.loads(now))
    except ValueError:
        return False


def _describe(event: HistoryEvent, beside: HistoryEvent | None = None) -> str:
    """A decision in words; the field in which it differs from the one `beside` it is named where nothing else would show."""
    words = type(event).__name__
    if (task_id := getattr(event, "task_id", None)) is not None:
        words += f" #{task_id}"
    if (name := getattr(event, "name", None)) is not None:
        words += f" {name!r}"
    if isinstance(event, ev.SubOrchestrationInstanceCreated | ev.EventSent):
        words += f" for {event.instance_id!r}"
    if isinstance(event, ev.ExecutionCompleted):
        words += f" {event.status.name}" + (
            f" ({event.failure.type}: {event.failure.message:.200})" if event.failure else ""
        )
    if beside is not None and _agree(beside, event, strict=False):
        field = _differing(beside, event)
        assert field is not None
        words += f" with {field} {getattr(event, field)!r:.100} instead of {getattr(beside, field)!r:.100}"
    return words
