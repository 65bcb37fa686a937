"""What the front of the house raises. Each message says what was expected, what was found and what to do.

PerdureError
├── InvalidRequest            (ValueError) refused here, before anything was sent
│   └── PayloadTooLarge       more bytes than one payload may have
├── RequestRefused            the hub answered, and said no; nothing was changed
│   ├── InstanceNotFound      there is no instance of that id
│   ├── InstanceAlreadyExists a start, and the id is taken
│   ├── InstanceFinished      too late: the instance has ended
│   ├── InstanceNotFinished   too early: it has to end first
│   └── Unauthorized          the HTTP API wants its token
├── NotCompleted              `result()`: the instance ended, but not with a result
│   ├── OrchestrationFailed   its code raised; `failure` is type, message, stack and cause
│   ├── InstanceCanceled      it was cancelled
│   └── InstanceTerminated    it was terminated
├── NoAnswer                  (TimeoutError) nobody answered in time
│   ├── StartUnknown          whether the instance was started is not known; safe to repeat
│   └── WaitTimeout           the instance goes on; only the wait is over
├── HubError                  the hub cannot be used
│   ├── HubMissing            there is none
│   ├── HubUnavailable        it cannot be reached now
│   └── HubRefused            it is not what was expected: partitions, topics, format; or it refuses us: credentials, rights
├── ConfigError               a flag, variable or line of perdure.toml that cannot be used
└── AppNotLoaded              `module:app` leads to no app
"""

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from perdure.schemas.events import Failure

    from .client.views import Instance

CAUSES_SHOWN_MAX = 8


class PerdureError(Exception):
    """The base of all. `code` is its name on the wire of the HTTP API."""

    code: ClassVar[str] = "error"


class InvalidRequest(PerdureError, ValueError):
    """Refused before anything was sent; `path` is where in the value, if it is about one."""

    code = "invalid-request"

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class PayloadTooLarge(InvalidRequest):
    """One payload has more bytes than it may have."""

    code = "payload-too-large"


class RequestRefused(PerdureError):
    """The hub said no, and changed nothing."""

    code = "refused"

    def __init__(self, message: str, instance_id: str = "") -> None:
        super().__init__(message)
        self.instance_id = instance_id


class InstanceNotFound(RequestRefused):
    """There is no instance of that id, or it was purged."""

    code = "instance-not-found"


class InstanceAlreadyExists(RequestRefused):
    """The id of a start is taken; `if_exists` says what else to do then."""

    code = "instance-already-exists"


class InstanceFinished(RequestRefused):
    """The instance has ended, and takes no more requests."""

    code = "instance-finished"


class InstanceNotFinished(RequestRefused):
    """A running instance is purged only with `force`."""

    code = "instance-not-finished"


class Unauthorized(RequestRefused):
    """The API wants a token, and another one than was given."""

    code = "unauthorized"


class NotCompleted(PerdureError):
    """The instance ended without a result; `instance` is all that is known of it."""

    def __init__(self, instance: "Instance") -> None:
        super().__init__(_describe_end(instance))
        self.instance = instance


class OrchestrationFailed(NotCompleted):
    """The orchestration raised and did not catch; `failure` has the chain of causes."""

    @property
    def failure(self) -> "Failure | None":
        """Type, message, stack and cause, as data."""
        return self.instance.failure


class InstanceCanceled(NotCompleted):
    """Cancel was asked, and the orchestration ended with it."""


class InstanceTerminated(NotCompleted):
    """Terminate was asked, and the orchestration was not."""


class NoAnswer(PerdureError, TimeoutError):
    """Nobody answered in time: no worker owns the partition now, or the hub cannot be reached."""

    code = "no-answer"

    def __init__(self, message: str, instance_id: str = "") -> None:
        super().__init__(message)
        self.instance_id = instance_id


class StartUnknown(NoAnswer):
    """A start that was not answered: the instance may have been started or not.

    Start again with this `instance_id` and `request_id` and it is done once, whatever became of the first try.
    """

    code = "start-unknown"

    def __init__(self, message: str, instance_id: str = "", request_id: str = "") -> None:
        super().__init__(message, instance_id)
        self.request_id = request_id


class WaitTimeout(NoAnswer):
    """The wait is over and the instance goes on."""

    code = "wait-timeout"


class HubError(PerdureError):
    """The hub cannot be used."""

    code = "hub-error"


class HubMissing(HubError):
    """There is no such hub."""

    code = "hub-missing"


class HubUnavailable(HubError):
    """The hub cannot be reached now."""

    code = "hub-unavailable"


class HubRefused(HubError):
    """The hub is not what was expected."""

    code = "hub-refused"


class ConfigError(PerdureError):
    """A setting that is unknown or cannot be used; the message names it and where it came from."""

    code = "config"


class AppNotLoaded(PerdureError):
    """`module:app` leads to no app."""

    code = "app-not-loaded"


def _describe_end(instance: "Instance") -> str:
    head = f"instance {instance.instance_id!r} of {instance.name!r} is {instance.status.name}"
    causes: list[str] = []
    failure = instance.failure
    while failure is not None and len(causes) < CAUSES_SHOWN_MAX:
        text = f"{failure.type}: {failure.message}" if failure.message else failure.type
        if not any(text in told for told in causes):  # how a task failed holds what it failed with
            causes.append(text)
        failure = failure.cause
    if not causes and instance.result is not None:
        causes.append(_short(instance.result))
    return ": ".join((head, ", caused by ".join(causes))) if causes else head


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
