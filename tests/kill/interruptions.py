"""Which kills count: those that tore something apart, by the account of the log and of the file, not of the killer.

An attempt was interrupted by a kill if the file says that it ran in the process that was killed, and the log that it was
dispatched by the last epoch which that process had on the partition, never completed, and was given up as lost by an epoch
that began after the kill.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .judge import Account, Attempt, Effect, Epoch

UNFINISHED_MIN = 200
LOST_MAX = 3


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to process `pid` at this wall-clock time."""

    pid: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Toll:
    """What a kill met: how many instances were unfinished, and which attempts it interrupted."""

    unfinished: int
    interrupted: frozenset[Attempt]

    @property
    def counts(self) -> bool:
        return self.unfinished >= UNFINISHED_MIN and bool(self.interrupted)


def take_toll(kill: Kill, account: Account, effects: Sequence[Effect]) -> Toll:
    """Say what a kill met."""
    ran = {(effect.key, effect.attempt) for effect in effects if effect.pid == kill.pid} - set(account.completed)
    lost = [_lost_by(kill, epochs) for epochs in account.epochs]
    return Toll(account.unfinished_at(kill.time_ms), frozenset(ran & set().union(*lost)))


def find_blamed(kills: Sequence[Kill], account: Account) -> list[str]:
    """Activities that failed because they did not come back three times, though they were not killed three times."""
    gave_up = sorted(attempt for epochs in account.epochs for epoch in epochs for attempt in epoch.gave_up)
    blamed: list[str] = []
    for key, last in account.crashed:
        lost = [*(attempt for each, attempt in gave_up if each == key), last]
        killed = [attempt for attempt in lost if any(_met(kill, account, (key, attempt)) for kill in kills)]
        if len(killed) < LOST_MAX:
            blamed.append(
                f"{key} failed at attempt {last}, and of those that were lost, {lost}, only {killed} were killed"
            )
    return blamed


def _met(kill: Kill, account: Account, attempt: Attempt) -> bool:
    return any(
        epoch.pid == kill.pid and epoch.time_ms <= kill.time_ms and attempt in epoch.dispatched
        for epochs in account.epochs
        for epoch in epochs
    )


def _lost_by(kill: Kill, epochs: Sequence[Epoch]) -> set[Attempt]:
    before = [epoch for epoch in epochs if epoch.time_ms <= kill.time_ms]
    if not before or before[-1].pid != kill.pid:
        return set()
    gave_up = [epoch.gave_up for epoch in epochs[len(before) :]]
    return before[-1].dispatched & set().union(*gave_up)
