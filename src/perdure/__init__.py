"""Perdure: durable execution on the Kafka you already run.

The programming model is here at once; the clients are loaded when they are first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from perdure.actors.activity import Activity, ActivityContext
from perdure.actors.app import App
from perdure.actors.context import OrchestrationContext
from perdure.actors.errors import (
    LimitExceeded,
    NonRetriableError,
    OrchestrationCanceled,
    TaskCanceledError,
    TaskFailedError,
    ValueRefused,
)
from perdure.actors.limits import Limits
from perdure.actors.loggers import ReplaySafeLogger
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

if TYPE_CHECKING:
    from perdure.client import AsyncClient, AsyncHandle, Client, Handle, IfExists

_LAZY = frozenset({"AsyncClient", "AsyncHandle", "Client", "Handle", "IfExists"})

__all__ = [
    "Activity",
    "ActivityContext",
    "App",
    "AsyncClient",
    "AsyncHandle",
    "CancellableTask",
    "Client",
    "ExternalTask",
    "Handle",
    "IfExists",
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


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module("perdure.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
