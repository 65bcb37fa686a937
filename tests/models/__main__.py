"""`make models`: search the models to the end within wide bounds, and print bounds, states and time. Exit 1 on a fault."""

import sys
import time
from typing import Any

from .messages import Bounds as MessageBounds
from .messages import Messages
from .ownership import Bounds as OwnershipBounds
from .ownership import Ownership
from .search import Model, search
from .tasks import Bounds as TaskBounds
from .tasks import Tasks
from .trimming import Bounds as TrimmingBounds
from .trimming import Trimming

WIDE: tuple[tuple[type[Any], Any], ...] = (
    (Ownership, OwnershipBounds(crashes=2)),
    (Ownership, OwnershipBounds(turns=3, parts=2)),
    (Ownership, OwnershipBounds(owners=3)),
    (Messages, MessageBounds()),
    (Messages, MessageBounds(sends=2, losses=2, crashes=2)),
    (Tasks, TaskBounds()),
    (Trimming, TrimmingBounds()),
    (Trimming, TrimmingBounds(instances="xy", checkpoints=2, crashes=0, moves=0)),
)
STATES_MAX = 20_000_000


def main() -> int:
    faults = 0
    for kind, bounds in WIDE:
        began = time.process_time()
        model: Model[Any] = kind(bounds)
        found = search(model, STATES_MAX)
        faults += found.fault is not None or not found.complete
        print(f"{kind.__name__} {bounds}: {found}, {time.process_time() - began:.0f} s", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
