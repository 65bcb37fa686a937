"""The JSON view of a history leads back to the very same history."""

import json

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.schemas.events import HistoryEvent, TaskCompleted, TaskFailed
from perdure.schemas.views import (
    HistoryTurn,
    event_from_json,
    event_to_json,
    payload_from_json,
    payload_to_json,
    time_from_json,
    time_to_json,
    turn_from_json,
    turn_to_json,
)
from tests.schemas import samples
from tests.schemas.values import any_of

TIMES = st.integers(-62_135_596_800_000, 253_402_300_799_999)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab$é☃", max_size=4),
    lambda items: (
        st.lists(items, max_size=3) | st.dictionaries(st.text("a$", max_size=2) | st.just("$text"), items, max_size=3)
    ),
    max_leaves=6,
)


@given(any_of(HistoryEvent))
def test_an_event_comes_back_from_its_view(event: HistoryEvent) -> None:
    text = json.dumps(event_to_json(event))

    assert event == event_from_json(json.loads(text))


@given(
    st.builds(
        HistoryTurn,
        st.integers(0, 1 << 60),
        TIMES,
        st.booleans(),
        st.lists(any_of(HistoryEvent), max_size=3).map(tuple),
    )
)
def test_a_turn_comes_back_from_its_view(turn: HistoryTurn) -> None:
    text = json.dumps(turn_to_json(turn))

    assert turn == turn_from_json(json.loads(text))


@given(st.binary(max_size=20) | JSON.map(orjson.dumps) | JSON.map(json.dumps).map(str.encode))
@example(b'{"$text":"null"}')
@example(b'{"$base64":1}')
@example(b"1e400")
@example(b"[" * 5_000)
@example(b"-0")
@example(b"\xff")
def test_a_payload_comes_back_from_its_view(payload: bytes) -> None:
    shown = json.loads(json.dumps(payload_to_json(payload)))

    assert payload == payload_from_json(shown)


def test_a_view_shows_payloads_as_values_and_names_its_type() -> None:
    assert {"type": "TaskCompleted", "task_id": 1, "attempt": 2, "result": {"sum": [1, 2.5, None]}} == event_to_json(
        TaskCompleted(1, 2, b'{"sum":[1,2.5,null]}')
    )


def test_a_view_shows_the_causes_of_a_failure_and_enumerations_by_name() -> None:
    failed = event_to_json(TaskFailed(1, 1, samples.FAILURE))
    completed = event_to_json(samples.EVENTS[1])

    assert "connection refused" == failed["failure"]["cause"]["message"]
    assert "FAILED" == completed["status"]


def test_times_are_utc_to_the_millisecond() -> None:
    assert "2026-09-21T14:13:20.123Z" == time_to_json(samples.TIME_MS)
    assert samples.TIME_MS == time_from_json("2026-09-21T16:13:20.123+02:00")
    with pytest.raises(ValueError, match="a time needs its zone"):
        time_from_json("2026-09-21T14:13:20.123")


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({}, "no history event is called None"),
        ({"type": "TaskPraised"}, "no history event is called 'TaskPraised'"),
        ({"type": "TimerFired", "task_id": 1}, "TimerFired: .*fire_at_ms"),
        ({"type": "TimerFired", "task_id": True, "fire_at_ms": 1}, "TimerFired.task_id: expected int, found True"),
        ({"type": "TimerFired", "task_id": 1, "fire_at_ms": 1, "by": 2}, "TimerFired: no field is called 'by'"),
        ({"type": "ExecutionCompleted", "status": "DONE"}, "ExecutionCompleted.status: expected one of PENDING"),
        (
            {"type": "ExecutionStarted", "execution_id": "e", "name": "n", "flags": [1, "2"]},
            r"ExecutionStarted.flags\[1\]: expected int",
        ),
        ({"type": "TaskFailed", "task_id": 1, "attempt": 1, "failure": []}, "TaskFailed.failure: expected dict"),
    ],
)
def test_a_wrong_view_is_refused_with_the_place(view: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        event_from_json(view)


def test_a_turn_that_lacks_something_is_refused() -> None:
    with pytest.raises(ValueError, match="a turn lacks decided, time"):
        turn_from_json({"offset": 1, "events": []})
