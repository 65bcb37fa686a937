"""Setting: what surrounds a turn."""

from collections.abc import Callable

from perdure.schemas.events import ExecutionStarted
from perdure.schemas.frozen import dataclass

from .executor import Executor
from .limits import Limits


@dataclass(frozen=True, slots=True)
class Setting:
    """What surrounds a turn: partition time, the offset that its record will have, and where live code comes from.

    `code` is called only when the turn decides; it may raise InstanceHeld. `may_decide` false: take facts only (R8, R10).
    `flags` are the engine flags that an execution which starts now records.
    """

    now_ms: int
    offset: int
    code: Callable[[str, ExecutionStarted], Executor]
    limits: Limits
    may_decide: bool = True
    flags: tuple[int, ...] = ()
