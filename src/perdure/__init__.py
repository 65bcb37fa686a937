"""Perdure: durable execution on the Kafka you already run."""

from perdure.actors.activity import Activity, ActivityContext
from perdure.actors.app import App
from perdure.actors.context import OrchestrationContext, ReplaySafeLogger
from perdure.actors.errors import (
    LimitExceeded,
    NonRetriableError,
    OrchestrationCanceled,
    TaskCanceledError,
    TaskFailedError,
    ValueRefused,
)
from perdure.actors.limits import Limits
from perdure.actors.orchestration import Orchestration
from perdure.actors.retries import RetryPolicy
from perdure.actors.tasks import (
    CancellableTask,
    ExternalTask,
    Task,
    TimerTask,
    WhenAllTask,
    WhenAnyTask,
    when_all,
    when_any,
)

__all__ = [
    "Activity",
    "ActivityContext",
    "App",
    "CancellableTask",
    "ExternalTask",
    "LimitExceeded",
    "Limits",
    "NonRetriableError",
    "Orchestration",
    "OrchestrationCanceled",
    "OrchestrationContext",
    "ReplaySafeLogger",
    "RetryPolicy",
    "Task",
    "TaskCanceledError",
    "TaskFailedError",
    "TimerTask",
    "ValueRefused",
    "WhenAllTask",
    "WhenAnyTask",
    "when_all",
    "when_any",
]
