"""Code that kills its owner is found, held, and keeps nobody else from going on (R13)."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from perdure.actors.app import App
from perdure.actors.context import OrchestrationContext
from perdure.partitions.deaths import CARE_MS, LONE_DEATHS_MAX, Deaths, Tries, decode_deaths, encode_deaths
from perdure.partitions.memory import MemoryStores
from perdure.partitions.state import PartitionState
from perdure.schemas import messages as ms
from perdure.schemas.codec import decode_attempt, decode_checkpoint, encode_checkpoint
from perdure.schemas.events import Status
from perdure.schemas.records import FIRST_LEVEL, RecordKind, TurnBody
from tests.partitions.cluster import Cluster, Member

DEATHS_MAX = 8
app = App()
mended: set[str] = set()


def die_of(poison: str) -> None:
    """End the process, as a fault in C or an exit does. Nothing between here and the test takes this for the author's."""
    if poison not in mended:
        raise KeyboardInterrupt(poison)


@app.orchestration
async def dies_at_its_start(ctx: OrchestrationContext) -> str:
    die_of("start")
    return "lived"


@app.orchestration
async def dies_of_an_event(ctx: OrchestrationContext) -> str:
    await ctx.wait_for_external_event("go")
    die_of("event")
    return "lived"


@app.orchestration
async def dies_of_a_timer(ctx: OrchestrationContext) -> str:
    await ctx.create_timer(timedelta(milliseconds=300))
    die_of("timer")
    return "lived"


@app.orchestration
async def healthy(ctx: OrchestrationContext, rounds: int) -> int:
    for _ in range(rounds):
        await ctx.create_timer(timedelta(milliseconds=200))
    return rounds


@pytest.fixture(autouse=True)
def nothing_is_mended() -> Iterator[None]:
    mended.clear()
    yield
    mended.clear()


class Ward:
    """One owner after another, each a process of its own; `deaths` names what each died of."""

    def __init__(self, *, partitions: int = 1, keeps_disk: bool = True) -> None:
        self.cluster = Cluster(partitions, code=app)
        self.deaths: list[str] = []
        self._stores = MemoryStores()
        self._keeps_disk = keeps_disk
        self.owner = self._next()

    def _next(self) -> Member:
        stores = self._stores if self._keeps_disk else MemoryStores()
        return self.cluster.join(f"worker-{len(self.deaths)}", stores=stores)

    def until(self, done: Callable[[], Any]) -> None:
        for _ in range(5_000):
            if done():
                return
            self.step()
        raise AssertionError(f"it did not come about; deaths: {self.deaths}")

    def step(self) -> None:
        try:
            self.cluster.step()
        except KeyboardInterrupt as death:
            self.deaths.append(str(death))
            self.cluster.kill(self.owner)
            self.owner = self._next()
        self.cluster.clock.now_ms += 20

    def ended(self, *names: str) -> Callable[[], bool]:
        return lambda: self.cluster.ended().keys() >= set(names)

    def view(self, name: str) -> dict[str, Any]:
        found: list[ms.Reply] = []

        def asked() -> bool:
            request = self.cluster.send(name, ms.Query(ms.QueryKind.GET))
            for _ in range(20):
                self.step()
            found.extend(self.cluster.replies(request))
            return bool(found)

        self.until(asked)
        return self.cluster.view(name)

    def held(self, name: str) -> bool:
        holdings = self.owner[self.cluster.home_of(name)].holdings
        slot = holdings.instances.get(name) if holdings is not None else None
        return slot is not None and slot.held is not None and slot.held.kind == "poison"

    def attempts(self) -> list[tuple[str, ...]]:
        accepted = self.cluster.histories[0].accepted()
        return [
            decode_attempt(each.body, each.format).instances for each in accepted if each.kind == RecordKind.ATTEMPT
        ]


KILLERS = {"start": "dies_at_its_start", "event": "dies_of_an_event", "timer": "dies_of_a_timer"}


def begin(ward: Ward, poison: str, others: int = 20) -> list[str]:
    names = [f"healthy-{number}" for number in range(others)]
    for name in names[: others // 2]:
        ward.cluster.send(name, ms.Start("healthy", b"5"))
    ward.cluster.send("killer", ms.Start(KILLERS[poison]))
    for name in names[others // 2 :]:
        ward.cluster.send(name, ms.Start("healthy", b"5"))
    if poison == "event":
        ward.cluster.send("killer", ms.RaiseEvent("go"))
    return names


@pytest.mark.parametrize("keeps_disk", [True, False], ids=["disk", "no disk"])
@pytest.mark.parametrize("poison", KILLERS)
def test_what_kills_its_owner_is_held_and_all_others_end(poison: str, keeps_disk: bool) -> None:
    ward = Ward(keeps_disk=keeps_disk)
    names = begin(ward, poison)
    ward.until(lambda: ward.held("killer"))
    ward.until(ward.ended(*names))

    assert len(ward.deaths) <= DEATHS_MAX
    assert {poison} == set(ward.deaths)
    view = ward.view("killer")
    assert ("poison", True) == (view["held"]["kind"], "resumed" in view["held"]["reason"])
    assert Status.RUNNING.name == view["status"] or Status.PENDING.name == view["status"]
    deaths = len(ward.deaths)
    ward.cluster.send("killer", ms.RaiseEvent("more"))
    for _ in range(100):
        ward.step()
    assert deaths == len(ward.deaths)
    ward.cluster.check()


def test_a_held_killer_lives_once_it_is_mended_and_resumed() -> None:
    ward = Ward()
    begin(ward, "timer", 2)
    ward.until(lambda: ward.held("killer"))
    mended.add("timer")
    ward.cluster.send("killer", ms.Resume())
    ward.until(ward.ended("killer"))

    assert "lived" == ward.view("killer")["result"]


def test_a_killer_that_is_resumed_and_not_mended_kills_once_more_and_is_held_again() -> None:
    ward = Ward()
    begin(ward, "event", 2)
    ward.until(lambda: ward.held("killer"))
    deaths = len(ward.deaths)
    ward.cluster.send("killer", ms.Resume())
    ward.until(lambda: len(ward.deaths) > deaths)
    ward.until(lambda: ward.held("killer"))
    for _ in range(200):
        ward.step()

    assert deaths + 1 == len(ward.deaths)


def test_two_killers_are_both_found() -> None:
    ward = Ward()
    ward.cluster.send("one", ms.Start("dies_at_its_start"))
    ward.cluster.send("two", ms.Start("dies_of_a_timer"))
    names = [f"healthy-{number}" for number in range(10)]
    for name in names:
        ward.cluster.send(name, ms.Start("healthy", b"5"))
    ward.until(lambda: ward.held("one") and ward.held("two"))
    ward.until(ward.ended(*names))

    assert len(ward.deaths) <= 2 * DEATHS_MAX


def test_owners_that_are_killed_from_outside_make_nobody_poison() -> None:
    ward = Ward()
    names = begin(ward, "start", 40)
    mended.add("start")
    for round_ in range(25):
        for _ in range(20 + 7 * round_ % 40):
            ward.step()
        ward.cluster.kill(ward.owner)
        ward.deaths.append("outside")
        ward.owner = ward._next()
    ward.until(ward.ended(*names, "killer"))

    assert ward.attempts(), "it recovered with care"
    ward.cluster.check()


def test_nobody_takes_care_where_nobody_dies() -> None:
    ward = Ward()
    mended.add("start")
    names = begin(ward, "start")
    ward.until(ward.ended(*names, "killer"))
    ward.owner.release()
    ward.until(lambda: ward.owner[0].phase.name == "CLOSED")
    ward.cluster.members.clear()
    ward.owner = ward.cluster.join("next")
    ward.cluster.send("after", ms.Start("healthy", b"1"))
    ward.until(ward.ended("after"))

    assert [] == ward.attempts()


def test_care_ends_when_an_owner_has_lived_for_long_enough() -> None:
    ward = Ward()
    begin(ward, "start", 2)
    ward.until(lambda: ward.held("killer"))
    ward.cluster.clock.now_ms += CARE_MS + 1_000
    for _ in range(50):
        ward.step()
    before = len(ward.attempts())
    ward.cluster.send("after", ms.Start("healthy", b"3"))
    ward.until(ward.ended("after"))

    assert before == len(ward.attempts())


def test_claims_of_one_process_are_no_deaths() -> None:
    deaths = Deaths()
    for time_ms in range(0, 10_000, 1_000):
        deaths.take_claim("worker-1", time_ms, released=False)

    assert not deaths.careful


def test_lives_that_were_long_or_ended_in_order_are_no_deaths() -> None:
    deaths = Deaths()
    for number in range(10):
        deaths.take_claim(f"worker-{number}", number * (CARE_MS + 1), released=False)
        deaths.take_body("i", TurnBody(number), forgotten=False)
    assert not deaths.careful
    for number in range(10):
        deaths.take_claim(f"other-{number}", 10 * (CARE_MS + 1) + number, released=True)
        deaths.take_body("i", TurnBody(number, released=True), forgotten=False)
    assert not deaths.careful


def test_what_is_known_of_deaths_survives_the_store() -> None:
    deaths = Deaths()
    deaths.take_claim("worker-1", 5, released=True)
    deaths.take_attempt(("a", "b"))
    deaths.take_claim("worker-2", 6, released=False)
    deaths.take_attempt(("a",))

    assert deaths == decode_deaths(encode_deaths(deaths)) == deaths.copy()
    assert {"a", "b"} == deaths.suspects
    deaths.take_attempt(())
    assert {"b"} == deaths.suspects


def test_who_claims_again_has_not_died_of_what_it_tried() -> None:
    deaths = Deaths()
    for number in range(12):
        deaths.take_claim(f"worker-{number % 2}", number, released=False)
        deaths.take_attempt(("a",))

    assert not deaths.is_poison("a")
    assert Tries((), ("worker-0", "worker-1")) == deaths.tries["a"]


def test_a_base_states_whom_something_is_held_against() -> None:
    deaths = Deaths()
    for number in range(LONE_DEATHS_MAX):
        deaths.take_claim(f"worker-{number}", number, released=False)
        deaths.take_attempt(("killer",))
    deaths.take_claim("worker-9", 9, released=False)
    deaths.take_attempt(("another",))
    state = PartitionState(deaths=deaths)
    checkpoint = decode_checkpoint(encode_checkpoint(state.checkpoint()), FIRST_LEVEL)
    told = PartitionState.of_checkpoint(checkpoint).deaths

    assert (told.owner, told.tries) == (deaths.owner, deaths.tries)
    assert told.is_poison("killer")
    told.take_attempt(())
    assert {"killer"} == set(told.tries)
