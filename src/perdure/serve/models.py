"""What the API takes and gives, for OpenAPI. Answers are the hub's own JSON; these models describe them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from perdure.client.requests import STATUSES, IfExists

EXAMPLE_INSTANCE: dict[str, Any] = {
    "instance_id": "order-17",
    "name": "fulfil",
    "status": "COMPLETED",
    "created_at": "2026-01-31T12:00:00.000Z",
    "updated_at": "2026-01-31T12:00:01.250Z",
    "execution_id": "2a-1",
    "generation": 1,
    "input": {"items": 3},
    "result": "shipped",
    "failure": None,
    "custom_status": None,
    "tags": {"customer": "ada"},
    "parent_instance_id": None,
    "held": None,
    "history_events": 9,
    "partition": 4,
    "as_of": 57,
}


class Strict(BaseModel):
    """A body in which every field is known."""

    model_config = ConfigDict(extra="forbid")


class EventBody(Strict):
    """An event to raise before the first turn."""

    name: str
    input: Any = None


class StartBody(Strict):
    """A start."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "fulfil",
                    "input": {"items": 3},
                    "instance_id": "order-17",
                    "tags": {"customer": "ada"},
                    "if_exists": "return",
                }
            ]
        },
    )
    name: str = Field(min_length=1, description="The orchestration.")
    input: Any = None
    instance_id: str | None = Field(None, description="Left out, the instance gets a new id.")
    tags: dict[str, str] = Field(default_factory=dict)
    start_at: datetime | None = Field(None, description="When the first turn is taken; with its time zone.")
    if_exists: IfExists = IfExists.REJECT
    replace_statuses: list[str] = Field(
        default_factory=list,
        description=f"What if_exists=replace may take the place of, of {', '.join(STATUSES)}; left out: what has ended.",
    )
    events: list[EventBody] = Field(default_factory=list, description="Raised before the first turn.")


class ReasonBody(Strict):
    """Why."""

    reason: str = ""


class TerminateBody(Strict):
    """Why; it becomes the result."""

    reason: str = ""
    recursive: bool = Field(default=True, description="Its children too.")


class HeldModel(BaseModel):
    """Why nobody runs it now; it goes on when a worker has other code, or on `resume`."""

    kind: str
    reason: str


class StartedModel(BaseModel):
    """`created` is false where an instance of this id was there and was given back."""

    instance_id: str
    execution_id: str
    created: bool
    held: HeldModel | None = None


class HealthModel(BaseModel):
    """The process lives."""

    status: str


class ReadyModel(BaseModel):
    """Whether the process can do its work; a worker says of which partitions, too."""

    model_config = ConfigDict(extra="allow")
    ready: bool


class FailureModel(BaseModel):
    """An exception, with that which caused it."""

    type: str
    message: str
    stack: str
    cause: "FailureModel | None"
    retriable: bool


class InstanceModel(BaseModel):
    """An instance as of the history offset `as_of` of its partition."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_INSTANCE]})
    instance_id: str
    name: str
    status: str = Field(json_schema_extra={"enum": [*STATUSES]})
    created_at: datetime
    updated_at: datetime
    execution_id: str
    generation: int
    input: Any
    result: Any
    failure: FailureModel | None
    custom_status: Any
    tags: dict[str, str]
    parent_instance_id: str | None
    held: HeldModel | None
    history_events: int
    partition: int
    as_of: int


class PageModel(BaseModel):
    """Instances, newest first. `silent` partitions did not answer in time."""

    instances: list[InstanceModel]
    next: str | None
    silent: list[int]


class TurnModel(BaseModel):
    """One turn: its offset in the history, and its events, each with its `type`."""

    offset: int
    time: datetime
    decided: bool
    events: list[dict[str, Any]]


class HistoryModel(BaseModel):
    """An instance with all its turns; `perdure.testing.replay` reads it."""

    instance: InstanceModel
    turns: list[TurnModel]


class ProblemModel(BaseModel):
    """RFC 9457. `type` ends with the error's code."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:perdure:problem:instance-not-found",
                    "title": "No such instance",
                    "status": 404,
                    "detail": "no instance 'order-17'; check the id, and that it is this hub's",
                    "instance_id": "order-17",
                }
            ]
        }
    )
    type: str
    title: str
    status: int
    detail: str
    instance_id: str | None = None
    request_id: str | None = None
    path: str | None = None
