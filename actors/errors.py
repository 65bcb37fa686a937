"""What the author's code may see raised, and what stops it from outside.

Exception
├── TaskFailedError          an activity or sub-orchestration failed for good
├── TaskCanceledError        a task that was cancelled is awaited
├── NonRetriableError        raised by an activity: do not try again
├── ValueRefused             a value does not fit its annotation, or JSON would change it
└── LimitExceeded            more decisions or tasks than one execution may have
BaseException                (so that `except Exception` does not swallow it)
├── OrchestrationCanceled    cancel was asked: raised where the orchestration waits
├── ForeignAwait             something was awaited that is not ours
└── TurnInterrupted          the turn took too long
"""

from perdure.schemas.events import Failure


class TaskFailedError(Exception):
    """An activity or sub-orchestration failed for good. `__cause__` is the original exception where its type is registered."""

    def __init__(self, message: str, failure: Failure) -> None:
        super().__init__(message)
        self.failure = failure

    @property
    def details(self) -> Failure:
        """The failure: type, message, stack and cause."""
        return self.failure


class TaskCanceledError(Exception):
    """The task was cancelled by this orchestration."""


class NonRetriableError(Exception):
    """Raise it (or a subclass) in an activity to fail it at once, whatever its retry policy says."""


class ValueRefused(ValueError):
    """A value that does not fit its annotation, or that JSON would change; `path` is where in it."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class LimitExceeded(RuntimeError):
    """One execution asked for more than the limits allow."""


class OrchestrationCanceled(BaseException):
    """Cancel was asked. Catch it to compensate, then raise it again; what the orchestration awaits meanwhile still runs."""


class ForeignAwait(BaseException):
    """The orchestration awaited something that is not ours. Holds the instance; not for catching."""


class TurnInterrupted(BaseException):
    """The turn took longer than its limit. Raised into the engine's thread by its watchdog; not for catching."""
