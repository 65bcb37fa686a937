"""The adversarial log and the store in memory, for simulation and tests."""

from .faults import Fate, FaultRates, Faults, FaultScript, RandomFaults, Reporting
from .hub import MemoryHub
from .log import MemoryLog, MemoryPublisher
from .store import MemoryStore, MemoryStores

__all__ = [
    "Fate",
    "FaultRates",
    "FaultScript",
    "Faults",
    "MemoryHub",
    "MemoryLog",
    "MemoryPublisher",
    "MemoryStore",
    "MemoryStores",
    "RandomFaults",
    "Reporting",
]
