"""docs/PROGRAMMING_MODEL.md is a program that runs, and its tables are true."""

import re
import sys
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from perdure import Limits
from perdure.errors import InstanceCanceled, OrchestrationFailed
from perdure.testing import run

DOC = (Path(__file__).resolve().parent.parent.parent / "docs" / "PROGRAMMING_MODEL.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def program() -> Any:
    """The code of the page as a module."""
    module = ModuleType("programming_model_page")
    sys.modules[module.__name__] = module
    exec("\n\n".join(re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)), module.__dict__)
    yield module
    del sys.modules[module.__name__]


def test_the_program_of_the_page_does_what_the_page_says(program: Any) -> None:
    with run(program.app) as env:

        def order(*items: str) -> Any:
            return program.Order(UUID(int=7), list(items), env.now + timedelta(days=1))

        approved = env.start(program.sell, order("hat", "coat"))
        approved.raise_event("approved", True)
        assert ["hat, reserved under 1", "coat, reserved under 2"] == approved.result()

        refunds = env.fake(program.refund, "refunded")
        with pytest.raises(OrchestrationFailed, match="nobody approved it"):
            env.run(program.sell, order("hat"))
        canceled = env.start(program.sell, order("hat"))
        canceled.cancel("changed my mind")
        with pytest.raises(InstanceCanceled):
            canceled.result()
        assert 2 == len(refunds.calls)

        before = env.now
        assert ["sold out: yeti"] == env.run(program.sell, order("yeti"))
        assert timedelta(seconds=1 + 2 + 4 + 8) == env.now - before
        with pytest.raises(OrchestrationFailed, match="there are none"):
            env.run(program.sell, order("unicorn"))

        counter = env.start(program.counter, 0)
        for number in (1, 2, 3, 0):
            counter.raise_event("ADD", number)
        assert 6 == counter.result()
        assert "hello Ada" == env.run(program.greet, "Ada")


def test_retries_children_and_events_of_the_page_do_what_it_says(program: Any) -> None:
    with run(program.app) as env:

        def fetch(item: str) -> str:
            if item == "hat":
                raise OSError("away")
            raise program.SoldOut(item) if item == "yeti" else ValueError(item)

        fake, before = env.fake(program.fetch, fetch), env.now
        assert {"hat": "builtins.OSError"}.keys() == env.run(program.restock, ["hat"]).keys()
        # At 0, 1, 3, 7, 15, 25, 35, 45 and 55 seconds; the next one would be after 65.
        assert ["hat"] * 9 == fake.calls
        assert timedelta(seconds=55) == env.now - before
        assert ["yeti", "scarf"] == list(env.run(program.restock, ["yeti", "scarf"]))
        assert ["yeti", "scarf"] == fake.calls[9:]
        env.fake(program.fetch, "slow", takes=timedelta(minutes=10))
        before = env.now
        (kind,) = env.run(program.restock, ["hat"]).values()
        assert (kind, True) == ("ActivityTimedOut", env.now - before < timedelta(minutes=6))

        orders = [program.Order(UUID(int=number), ["hat"], env.now + timedelta(days=1)) for number in (1, 2)]
        env.fake(program.refund, "refunded")
        sales = env.start(program.sell_all, orders)
        env.instance(f"sale-{orders[0].id}").raise_event("APPROVED", True)
        assert 1 == sales.result()

        assert "nobody knows" == env.run(program.ask, "why")
        assert "because" == env.run(program.ask, "why", events=[("ANSWERED", "because")])


def test_the_table_of_limits_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([\d, s]+) \|", DOC, re.MULTILINE)
    documented = {}
    for names, values in rows:
        keys = re.findall(r"\w+", names)
        found = [float(value.replace(",", "")) for value in re.findall(r"\d+(?:,\d{3})*", values)]
        documented.update(zip(keys, found if len(found) == len(keys) else found * len(keys), strict=True))

    known = {each.name: float(getattr(Limits(), each.name)) for each in fields(Limits)}
    assert {name: known[name] for name in documented} == documented
    assert len(documented) > 8
