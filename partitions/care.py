"""Care: how an owner works that has reason to expect its death (R13).

A round is taken in portions, each stated in the log before it is taken: first all instances that nothing is held against, then each
suspect alone. Whoever comes next knows from the last statement which instances were being tried when this owner died.

Rules of this file: it decides what is tried next; `Tenure` appends and takes turns.
"""

from collections import deque
from collections.abc import Collection, Container

from perdure.actors.executor import InstanceHeld
from perdure.schemas.events import NEVER

from .deaths import CARE_MS, Deaths
from .mail import Round

POISON = "poison"


class Care:
    """The portions of one round after another. `suspects` are tried alone; those `held` are not tried at all."""

    def __init__(self, suspects: Collection[str], held: Container[str], now: float) -> None:
        self._suspects = set(suspects)
        self._held = held
        self._ends_at = now + CARE_MS / 1000
        self._portions: deque[Round] = deque()
        self._stated: tuple[str, ...] = ()
        self._stated_at = NEVER

    def is_over(self, now: float) -> bool:
        """It has lived for long enough, and nothing is being tried."""
        return now >= self._ends_at and not self._portions and not self._stated

    @property
    def empty(self) -> bool:
        """Nothing is left of the round."""
        return not self._portions

    def suspect(self, instance_id: str) -> None:
        """Try this one alone."""
        self._suspects.add(instance_id)

    def fill(self, mail: Round) -> None:
        """Take a round apart."""
        alone = [name for name in mail.mail if name in self._suspects]
        for name in alone:
            portion = Round()
            portion.mail[name] = mail.mail.pop(name)
            self._portions.append(portion)
        # What is consumed without a turn goes with those that nothing is held against.
        self._portions.appendleft(mail)

    def to_state(self) -> tuple[str, ...] | None:
        """The instances that the log must name before the next portion is taken; None where it does, or need not. No names:
        those that were tried have survived."""
        names = self._tried()
        return names if self._stated_at == NEVER and (names or self._stated) else None

    def _tried(self) -> tuple[str, ...]:
        """The instances of the next portion whose code may run."""
        return tuple(name for name in self._portions[0].mail if name not in self._held)

    def state(self, names: tuple[str, ...], offset: int) -> None:
        """The statement is on its way, to `offset`."""
        self._stated = names
        self._stated_at = offset if names else NEVER

    def take(self, confirmed_offset: int) -> Round | None:
        """The next portion; None while its statement is not confirmed."""
        if self._tried() and not NEVER != self._stated_at <= confirmed_offset:
            return None
        portion, self._stated_at = self._portions.popleft(), NEVER
        self._suspects.difference_update(portion.mail)
        return portion


def find_poison(deaths: Deaths) -> dict[str, InstanceHeld]:
    """Instances that did not survive when nothing else was tried."""
    return {
        name: InstanceHeld(
            f"the process that ran its code died {len(tries.alone)} times while nothing else was tried; it is not tried again until it is resumed",
            kind=POISON,
        )
        for name, tries in deaths.tries.items()
        if deaths.is_poison(name)
    }
