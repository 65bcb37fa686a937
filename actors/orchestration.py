"""Orchestration: the definition of one."""

import inspect
from collections.abc import Callable, Generator
from typing import Any, get_args, get_origin

from .definitions import Definition, I_contra, O_co, read_signature
from .values import UNANNOTATED


class Orchestration(Definition[I_contra, O_co]):
    """A registered orchestration: pass it to `ctx.call_sub_orchestrator` and to clients, or call it as the function it is."""

    kind = "orchestration"

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        what = f"orchestration {name!r}"
        if inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{what} is an async generator: either `await` tasks in an async def, or `yield` them in a plain def"
            )
        super().__init__(name, function, read_signature(function, what, lambda _parameter, _annotation: True))
        if not self.signature.takes_context:
            raise TypeError(f"{what} takes no context: its first parameter is the OrchestrationContext")

    def _result_annotation(self, annotation: Any) -> Any:
        """A generator's annotation names what it returns last."""
        if get_origin(annotation) is Generator or annotation is Generator:
            arguments = get_args(annotation)
            return arguments[2] if len(arguments) == 3 else UNANNOTATED
        if inspect.isgeneratorfunction(self.function):
            return UNANNOTATED
        return annotation
