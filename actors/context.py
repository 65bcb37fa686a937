"""OrchestrationContext: everything that an orchestration may ask for. The names are those of Durable Task's Python SDK."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any, TypeVar, overload
from uuid import UUID, uuid5

from perdure.schemas import events as ev
from perdure.schemas.events import NEVER, NO_TAGS, NULL

from .activity import Activity
from .definitions import Definition
from .execution import Execution
from .limits import check_definition_name, check_event_name, check_instance_id, check_name, check_tags
from .loggers import ReplaySafeLogger
from .orchestration import Orchestration
from .retries import RetryPolicy, encode_retry_policy, encode_time_limit, milliseconds
from .tasks import CancellableTask, ExternalTask, TimerTask
from .values import UNANNOTATED, Codec

I = TypeVar("I")  # noqa: E741 - input and output, as everywhere
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_UUIDS = UUID("8f1b8d0c-6f5e-5b0e-9c39-2f6d6b1d7f7a")
_NOTHING = Codec(NoneType, "a timer's result")
_ANYTHING = Codec(UNANNOTATED, "a result")


class OrchestrationContext:
    """What one execution of an orchestration sees of the world. Only its own code may use it, and only while it runs."""

    __slots__ = ("_definition", "_execution", "_logger")

    def __init__(self, execution: Execution, definition: Orchestration[Any, Any]) -> None:
        self._execution = execution
        self._definition = definition
        self._logger: ReplaySafeLogger | None = None

    @property
    def instance_id(self) -> str:
        return self._execution.identity.instance_id

    @property
    def execution_id(self) -> str:
        """Changes on continue-as-new."""
        return self._execution.identity.execution_id

    @property
    def parent_instance_id(self) -> str | None:
        """The instance that called this one as a sub-orchestration, if one did."""
        return self._execution.identity.parent_instance_id

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags that this instance was started with."""
        return self._execution.identity.tags

    @property
    def current_utc_datetime(self) -> datetime:
        """The time of this turn, UTC and aware. It stands still until the next await."""
        return _EPOCH + timedelta(milliseconds=self._execution.now_ms)

    @property
    def is_replaying(self) -> bool:
        """True while the code is only brought back to where it was."""
        return self._execution.replaying

    @property
    def logger(self) -> ReplaySafeLogger:
        """A logger that is silent during replay."""
        if self._logger is None:
            name = self._execution.identity.name
            self._logger = self.create_replay_safe_logger(logging.getLogger(f"perdure.orchestration.{name}"))
        return self._logger

    def create_replay_safe_logger(self, logger: logging.Logger) -> ReplaySafeLogger:
        """Wrap `logger` so that it is silent during replay."""
        execution = self._execution
        ids = {"instance": execution.identity.instance_id, "execution": execution.identity.execution_id}
        return ReplaySafeLogger(logger, lambda: execution.replaying or execution.closed, ids)

    @overload
    def call_activity(
        self,
        activity: Activity[None, O],
        input: None = None,
        *,
        retry_policy: RetryPolicy | None = ...,
        tags: Mapping[str, str] | None = ...,
        return_type: None = ...,
        start_to_close: timedelta | None = ...,
        schedule_to_close: timedelta | None = ...,
    ) -> CancellableTask[O]: ...
    @overload
    def call_activity(
        self,
        activity: Activity[I, O],
        input: I,
        *,
        retry_policy: RetryPolicy | None = ...,
        tags: Mapping[str, str] | None = ...,
        return_type: None = ...,
        start_to_close: timedelta | None = ...,
        schedule_to_close: timedelta | None = ...,
    ) -> CancellableTask[O]: ...
    @overload
    def call_activity(
        self,
        activity: str,
        input: Any = None,
        *,
        retry_policy: RetryPolicy | None = ...,
        tags: Mapping[str, str] | None = ...,
        return_type: type[T],
        start_to_close: timedelta | None = ...,
        schedule_to_close: timedelta | None = ...,
    ) -> CancellableTask[T]: ...
    @overload
    def call_activity(
        self,
        activity: str,
        input: Any = None,
        *,
        retry_policy: RetryPolicy | None = ...,
        tags: Mapping[str, str] | None = ...,
        return_type: None = ...,
        start_to_close: timedelta | None = ...,
        schedule_to_close: timedelta | None = ...,
    ) -> CancellableTask[Any]: ...
    def call_activity(
        self,
        activity: Activity[Any, Any] | str,
        input: Any = None,  # noqa: A002 - Durable Task's name
        *,
        retry_policy: RetryPolicy | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: Any = None,
        start_to_close: timedelta | None = None,
        schedule_to_close: timedelta | None = None,
    ) -> CancellableTask[Any]:
        """Schedule an activity; the task comes to its result, or fails with TaskFailedError.

        `start_to_close` limits one attempt, `schedule_to_close` all of them together; where one is not given, the
        activity's own default holds. `return_type` says how the result of an activity called by its name is read.
        """
        execution = self._execution
        name, data, codec = self._call(Activity, activity, input, return_type)
        task_id = execution.next_task_id()
        retry, start_ms, schedule_ms = None, NEVER, NEVER
        if isinstance(activity, Activity):
            options = activity.options
            retry, start_ms, schedule_ms = options.retry, options.start_to_close_ms, options.schedule_to_close_ms
        if retry_policy is not None:
            retry = encode_retry_policy(retry_policy)
        if start_to_close is not None:
            start_ms = encode_time_limit("start_to_close", start_to_close)
        if schedule_to_close is not None:
            schedule_ms = encode_time_limit("schedule_to_close", schedule_to_close)
        what = activity.label if isinstance(activity, Activity) else f"activity {name!r}"
        task: CancellableTask[Any] = CancellableTask(execution, task_id, codec, what)
        recorded_tags = NO_TAGS if tags is None else check_tags(tags, execution.limits)
        execution.schedule(task, ev.TaskScheduled(task_id, name, data, retry, start_ms, schedule_ms, recorded_tags))
        return task

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Orchestration[None, O],
        input: None = None,
        *,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: Mapping[str, str] | None = ...,
        return_type: None = ...,
    ) -> CancellableTask[O]: ...
    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Orchestration[I, O],
        input: I,
        *,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: Mapping[str, str] | None = ...,
        return_type: None = ...,
    ) -> CancellableTask[O]: ...
    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: str,
        input: Any = None,
        *,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: Mapping[str, str] | None = ...,
        return_type: type[T],
    ) -> CancellableTask[T]: ...
    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: str,
        input: Any = None,
        *,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: Mapping[str, str] | None = ...,
        return_type: None = ...,
    ) -> CancellableTask[Any]: ...
    def call_sub_orchestrator(
        self,
        orchestrator: Orchestration[Any, Any] | str,
        input: Any = None,  # noqa: A002 - Durable Task's name
        *,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: Any = None,
    ) -> CancellableTask[Any]:
        """Start another orchestration as a child; the task comes to its result, or fails with TaskFailedError.

        Without an `instance_id` the child gets one that is made from this execution's, the same on every attempt.
        """
        execution = self._execution
        name, data, codec = self._call(Orchestration, orchestrator, input, return_type)
        task_id = execution.next_task_id()
        if instance_id is None:
            instance_id = execution.child_id(task_id)
        check_instance_id(instance_id, execution.limits)
        task: CancellableTask[Any] = CancellableTask(
            execution, task_id, codec, f"sub-orchestration {name!r} ({instance_id})"
        )
        recorded_tags = NO_TAGS if tags is None else check_tags(tags, execution.limits)
        retry = encode_retry_policy(retry_policy)
        execution.schedule(
            task, ev.SubOrchestrationInstanceCreated(task_id, name, instance_id, data, retry, recorded_tags)
        )
        return task

    def create_timer(self, fire_at: datetime | timedelta) -> TimerTask:
        """A durable timer, from one millisecond to years. A naive datetime is taken as UTC; one in the past fires at once."""
        execution = self._execution
        fire_at_ms = max(0, self._milliseconds_at(fire_at))
        task_id = execution.next_task_id()
        task = TimerTask(execution, task_id, _NOTHING, fire_at_ms)
        execution.schedule(task, ev.TimerCreated(task_id, fire_at_ms))
        return task

    def _milliseconds_at(self, moment: datetime | timedelta) -> int:
        if isinstance(moment, timedelta):
            return self._execution.now_ms + milliseconds(moment)
        if isinstance(moment, datetime):
            aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            return milliseconds(aware - _EPOCH)
        raise TypeError(f"a timer takes a datetime or a timedelta, not {moment!r:.60}")

    @overload
    def wait_for_external_event(
        self, name: str, *, data_type: type[T], timeout: timedelta | datetime | None = ...
    ) -> ExternalTask[T]: ...
    @overload
    def wait_for_external_event(
        self, name: str, *, data_type: None = ..., timeout: timedelta | datetime | None = ...
    ) -> ExternalTask[Any]: ...
    def wait_for_external_event(
        self, name: str, *, data_type: Any = None, timeout: timedelta | datetime | None = None
    ) -> ExternalTask[Any]:
        """Wait for an event raised on this instance. Names match without regard to case; each event goes to one wait, in the
        order in which they came, also those that came before anyone waited. With a `timeout` awaiting it may raise TimeoutError.
        """
        execution = self._execution
        check_event_name(name, execution.limits)
        annotation = UNANNOTATED if data_type is None else data_type
        task: ExternalTask[Any] = ExternalTask(execution, Codec(annotation, f"event {name!r}"), name)
        execution.wait(task)
        if timeout is not None and not task.done:
            task.timer = self.create_timer(timeout)
            task.timer.watch(task)
        return task

    def send_event(self, instance_id: str, event_name: str, *, data: Any = None) -> None:
        """Raise an external event on another instance. One way: nothing comes back."""
        execution = self._execution
        check_instance_id(instance_id, execution.limits)
        check_event_name(event_name, execution.limits)
        encoded = Codec(UNANNOTATED, f"event {event_name!r}").encode(data)
        execution.check_payload(f"event {event_name!r}", encoded)
        execution.record(ev.EventSent(execution.next_task_id(), instance_id, event_name, encoded))

    def set_custom_status(self, custom_status: Any) -> None:
        """Show a JSON value with the instance, for whoever looks at it."""
        encoded = Codec(UNANNOTATED, "the custom status").encode(custom_status)
        self._execution.check_payload("the custom status", encoded)
        self._execution.record(ev.CustomStatusSet(encoded))

    def continue_as_new(self, new_input: Any, *, save_events: bool = True) -> None:
        """Begin again with `new_input` and an empty history, under the same instance id, once the code returns.

        External events that nobody took yet go along, unless `save_events` is False.
        """
        encoded = self._definition.encode_input(new_input)
        self._execution.check_payload(self._definition.label, encoded)
        self._execution.continue_as_new(encoded, save_events=save_events)

    def patched(self, patch_id: str) -> bool:
        """True where the new code shall run: in executions that had not come here before the patch was deployed.

        The answer is recorded when it is first true, and stays the same for the whole execution.
        """
        check_name("a patch id", patch_id, self._execution.limits)
        return self._execution.patched(patch_id)

    def new_uuid(self) -> str:
        """A UUID that is the same in every replay."""
        execution = self._execution
        execution.uuids += 1
        identity = execution.identity
        return str(uuid5(_UUIDS, f"{identity.instance_id}/{identity.execution_id}/{execution.uuids}"))

    def _call(
        self, kind: type[Definition[Any, Any]], called: Definition[Any, Any] | str, given: Any, return_type: Any
    ) -> tuple[str, bytes, Codec]:
        """Name, input and result codec of a call."""
        if isinstance(called, str):
            check_definition_name(called, self._execution.limits)
            what = f"{kind.kind} {called!r}"
            data = Codec(UNANNOTATED, what).encode(given) if given is not None else NULL
            codec = _ANYTHING if return_type is None else Codec(return_type, f"{what}, result")
            name = called
        elif isinstance(called, kind):
            name, data, codec, what = called.name, called.encode_input(given), called.result_codec, called.label
            if return_type is not None:
                codec = Codec(return_type, codec.what)
        else:
            raise TypeError(
                f"{called!r:.80} is not an {kind.kind}: decorate it with @app.{kind.kind}, or give its name as a string"
            )
        self._execution.check_payload(what, data)
        return name, data, codec
