"""The types of `app.orchestration` and `app.activity`: from a function's signature to the input and result of its definition."""

from collections.abc import Callable, Coroutine, Generator
from datetime import timedelta
from typing import Any, Protocol, TypeVar, overload

from .activity import Activity, ActivityContext
from .context import OrchestrationContext
from .orchestration import Orchestration
from .retries import RetryPolicy

I = TypeVar("I")  # noqa: E741 - input and output, as everywhere
O = TypeVar("O")  # noqa: E741

Async = Coroutine[Any, Any, O]
Steps = Generator[Any, Any, O]


class OrchestrationDecorator(Protocol):
    """Register an orchestration: `async def` or a generator, of `(ctx)` or `(ctx, input)`. Its name is the function's."""

    @overload
    def __call__(self, function: Callable[[OrchestrationContext], Async[O]], /) -> Orchestration[None, O]: ...
    @overload
    def __call__(self, function: Callable[[OrchestrationContext, I], Async[O]], /) -> Orchestration[I, O]: ...
    @overload
    def __call__(self, function: Callable[[OrchestrationContext], Steps[O]], /) -> Orchestration[None, O]: ...
    @overload
    def __call__(self, function: Callable[[OrchestrationContext, I], Steps[O]], /) -> Orchestration[I, O]: ...
    @overload
    def __call__(self, *, name: str | None = None) -> "OrchestrationDecorator": ...


class ActivityDecorator(Protocol):
    """Register an activity: `async def` or a plain function, of `()`, `(input)`, `(ctx)` or `(ctx, input)`.

    The options hold wherever a call does not state its own: `start_to_close` limits one attempt, `schedule_to_close` all.
    """

    @overload
    def __call__(self, function: Callable[[ActivityContext, I], Async[O]], /) -> Activity[I, O]: ...
    @overload
    def __call__(self, function: Callable[[ActivityContext, I], O], /) -> Activity[I, O]: ...
    @overload
    def __call__(self, function: Callable[[ActivityContext], Async[O]], /) -> Activity[None, O]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: Callable[[ActivityContext], O], /) -> Activity[None, O]: ...
    @overload
    def __call__(self, function: Callable[[I], Async[O]], /) -> Activity[I, O]: ...
    @overload
    def __call__(self, function: Callable[[I], O], /) -> Activity[I, O]: ...
    @overload
    def __call__(self, function: Callable[[], Async[O]], /) -> Activity[None, O]: ...
    @overload
    def __call__(self, function: Callable[[], O], /) -> Activity[None, O]: ...
    @overload
    def __call__(
        self,
        *,
        name: str | None = None,
        retry_policy: RetryPolicy | None = None,
        start_to_close: timedelta | None = None,
        schedule_to_close: timedelta | None = None,
    ) -> "ActivityDecorator": ...
