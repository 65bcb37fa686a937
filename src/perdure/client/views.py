"""What a client is shown: instances, pages of them and histories, as values made from the hub's JSON.

The JSON itself is kept too (`as_json`): it is the same over Kafka and HTTP, and what `--json` prints.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from perdure.actors.errors import ValueRefused
from perdure.actors.values import decode_plain
from perdure.schemas.events import Failure, Status
from perdure.schemas.views import HistoryTurn, turn_from_json

from .answers import reading_answer

View = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """Why an instance waits for other code or for `resume`."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as of the history offset `as_of` of its partition. Payloads are the JSON values that they hold."""

    instance_id: str
    name: str
    status: Status
    created_at: datetime
    updated_at: datetime
    execution_id: str
    generation: int
    input: Any
    result: Any
    failure: Failure | None
    custom_status: Any
    tags: Mapping[str, str]
    parent_instance_id: str | None
    held: Held | None
    history_events: int
    partition: int
    as_of: int
    view: View = field(repr=False)

    def as_json(self) -> View:
        """The instance as JSON, as the hub gave it."""
        return self.view


@dataclass(frozen=True, slots=True)
class Page:
    """Some instances, newest first. `next` goes on from here, None at the end; `silent` partitions did not answer in time, and
    what they hold is missing."""

    instances: tuple[Instance, ...]
    next: str | None = None
    silent: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[Instance]:
        return iter(self.instances)

    def __len__(self) -> int:
        return len(self.instances)

    def as_json(self) -> View:
        return {
            "instances": [instance.view for instance in self.instances],
            "next": self.next,
            "silent": list(self.silent),
        }


@dataclass(frozen=True, slots=True)
class History:
    """The turns of an instance, each as `{"offset", "time", "decided", "events"}`."""

    instance: Instance
    turns: tuple[View, ...]

    def as_json(self) -> View:
        """What `perdure history ID --json` saves and `perdure.testing.replay` reads."""
        return {"instance": self.instance.view, "turns": list(self.turns)}

    def decode(self) -> tuple[HistoryTurn, ...]:
        """The turns with their events as values."""
        return tuple(turn_from_json(turn) for turn in self.turns)


def decode_json(text: bytes) -> Any:
    """What a hub's JSON says, integers of any size included. Raises ValueError."""
    try:
        return decode_plain(text)
    except ValueRefused as error:
        raise ValueError(str(error)) from error


def encode_json(value: Any) -> bytes:
    """The reverse, for values that were JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def instance_of(view: View) -> Instance:
    """The instance that a view shows. Raises HubRefused."""
    with reading_answer("an instance"):
        return _instance_of(view)


def _instance_of(view: View) -> Instance:
    held = view["held"]
    return Instance(
        instance_id=view["instance_id"],
        name=view["name"],
        status=Status[view["status"]],
        created_at=_time(view["created_at"]),
        updated_at=_time(view["updated_at"]),
        execution_id=view["execution_id"],
        generation=view["generation"],
        input=view["input"],
        result=view["result"],
        failure=failure_of(view["failure"]),
        custom_status=view["custom_status"],
        tags=view["tags"],
        parent_instance_id=view["parent_instance_id"],
        held=held_of(held),
        history_events=view["history_events"],
        partition=view["partition"],
        as_of=view["as_of"],
        view=view,
    )


def held_of(view: View | None) -> Held | None:
    return None if view is None else Held(view["kind"], view["reason"])


def failure_of(view: View | None) -> Failure | None:
    """The failure with its causes."""
    if view is None:
        return None
    return Failure(view["type"], view["message"], view["stack"], failure_of(view["cause"]), view["retriable"])


def page_of(view: View) -> Page:
    with reading_answer("a list"):
        return Page(tuple(map(instance_of, view["instances"])), view["next"], tuple(view.get("silent", ())))


def history_of(view: View) -> History:
    with reading_answer("a history"):
        return History(instance_of(view["instance"]), tuple(view["turns"]))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
