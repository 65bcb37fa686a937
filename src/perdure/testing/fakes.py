"""Fakes: what a test lets an activity do instead."""

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from perdure.actors.activity import Activity, ActivityContext
from perdure.actors.values import UNANNOTATED, Codec

_PLAIN = Codec(UNANNOTATED, "a faked activity")


@dataclass(eq=False, slots=True)
class Fake:
    """One faked activity. `calls` are the inputs that it was given, in order; every attempt is one."""

    name: str
    act: Any
    takes_ms: int = 0
    calls: list[Any] = field(default_factory=list)

    def note(self, real: Activity[Any, Any] | None, data: bytes) -> Any:
        """Add one attempt to `calls`; return its input."""
        value = (real.input_codec if real is not None and real.signature.takes_input else _PLAIN).decode(data)
        self.calls.append(value)
        return value

    def prepare(
        self, real: Activity[Any, Any] | None, context: ActivityContext, data: bytes
    ) -> Callable[[], bytes] | Coroutine[Any, Any, bytes]:
        """One attempt, ready to run; input and result pass through JSON as those of the real one do."""
        value = self.note(real, data)
        result = real.result_codec if real is not None else _PLAIN
        if isinstance(self.act, BaseException) or (isinstance(self.act, type) and issubclass(self.act, BaseException)):
            return self._raise
        if not callable(self.act):
            return lambda: result.encode(self.act)
        stand_in: Activity[Any, Any] = Activity(self.name, self.act)
        takes = stand_in.signature
        arguments = ((context,) if takes.takes_context else ()) + ((value,) if takes.takes_input else ())
        if inspect.iscoroutinefunction(self.act):
            return _encoded(self.act(*arguments), result)
        return lambda: result.encode(self.act(*arguments))

    def _raise(self) -> bytes:
        raise self.act


async def _encoded(work: Coroutine[Any, Any, Any], result: Codec) -> bytes:
    return result.encode(await work)
