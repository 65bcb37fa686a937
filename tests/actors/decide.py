"""Run orchestrations of every kind and print all that was recorded, byte for byte: `python -m tests.actors.decide`.

Whatever a process brings along (the seed of its hashes, its time zone, its locale) may not show in what is printed.
"""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from structlog.testing import capture_logs

from perdure import App, OrchestrationCanceled, OrchestrationContext, RetryPolicy, when_all, when_any
from perdure.schemas.codec import encode_turn
from perdure.schemas.records import TurnBody
from perdure.testing import run
from tests.actors.programs import ProgramLife

WORDS = ("pear", "apple", "fig", "Äpfel", "ı", "I", "İ", "straße", "ΣΊΣΥΦΟΣ")  # noqa: RUF001 (the Turkish letters are the point)


class Color(Enum):
    RED = "r"
    BLUE = 2


@dataclass(frozen=True)
class Bag:
    words: frozenset[str]
    pairs: frozenset[tuple[int, str]]
    colors: frozenset[Color]
    by_word: dict[str, set[int]]
    at: datetime


class Order(BaseModel):
    tags: set[str]
    price: Decimal
    due: datetime
    parts: "list[Order]" = []


app = App()


@app.activity
def pack(bag: Bag) -> Bag:
    return bag


@app.activity
def price(order: Order) -> Order:
    return order


@app.activity(retry_policy=RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3))
def fail(words: set[str]) -> set[str]:
    raise ValueError(f"no {sorted(words)}")


@app.orchestration
async def child(ctx: OrchestrationContext, bag: Bag) -> Bag:
    try:
        await ctx.wait_for_external_event("never", timeout=timedelta(days=1))
    except TimeoutError:
        return await ctx.call_activity(pack, bag)
    except OrchestrationCanceled:
        await ctx.call_activity(pack, bag)
        raise
    return bag


@app.orchestration
async def all_kinds(ctx: OrchestrationContext, words: set[str]) -> set[str]:
    berlin = ZoneInfo("Europe/Berlin")
    bag = Bag(
        frozenset(words), frozenset(enumerate(sorted(words))), frozenset(Color), {word: {1, 2, 300} for word in sorted(words)},
        datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=1),
    )  # fmt: skip
    order = Order(tags=words, price=Decimal("1.50"), due=datetime(2026, 7, 1, 12, tzinfo=berlin))
    ctx.set_custom_status(
        [ctx.new_uuid(), ctx.current_utc_datetime.isoformat(), str(ctx.current_utc_datetime.astimezone(berlin))]
    )
    children = [
        ctx.call_sub_orchestrator(child, bag, instance_id=f"{ctx.instance_id}/{word}") for word in sorted(words)
    ]
    await when_all(
        [ctx.call_activity(pack, bag), ctx.call_activity(price, order), ctx.create_timer(datetime(2026, 7, 1, 12))]
    )
    waits = [ctx.wait_for_external_event(word) for word in WORDS]
    await when_any([*waits, *children])
    try:
        await ctx.call_activity(fail, words)
    except Exception as error:  # noqa: BLE001
        ctx.send_event("nobody", "Failed", data=str(error))
    for each in children[:3]:
        each.cancel()
    return words


def engine() -> None:
    """A whole hub: every record of its log."""
    with run(app, now=datetime(2026, 1, 1, tzinfo=UTC), partitions=2) as env:
        first = env.start(all_kinds, set(WORDS), instance_id="one", tags={"a": "1", "b": "2"})
        for word in WORDS:
            first.raise_event(word.upper(), {"z": 1, "a": [word]})
        second = env.start(all_kinds, set(WORDS[:5]), instance_id="two")
        second.cancel("enough")
        env.start(all_kinds, set(WORDS), instance_id="three").terminate(recursive=True)
        env.advance(timedelta(days=400))
        for partition in range(2):
            log = env.hub._log
            for record in log.read_history(partition, 0, log.span_history(partition).end):
                print(partition, record.offset, (record.value or b"").hex())


def programs() -> None:
    """Random programs: what each turn records and sends."""
    for seed in range(60):
        life = ProgramLife(seed)
        for _ in range(15):
            life.take()
        life.let_go()
        for now_ms, turn in life.turns:
            sends: list[Any] = [(send.instance_id, send.body, send.request_id) for send in turn.sends]
            print(seed, encode_turn(TurnBody(now_ms, decided=turn.decided, events=turn.events)).hex(), sends)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    with capture_logs():  # they have the time of day, and go to where we print
        engine()
        programs()
