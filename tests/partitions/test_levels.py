"""A hub's format level: it begins at the first, only a record raises it, and an owner writes nothing above it (R12)."""

from typing import Any

import orjson
import pytest

from perdure.actors import flags
from perdure.partitions import levels, queries, tenure
from perdure.partitions.levels import WrittenLevel
from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.codec import decode_claim, decode_level, encode_inbound
from perdure.schemas.messages import Inbound, Query, QueryKind, ReplyCode, ReplyTo
from perdure.schemas.records import FIRST_LEVEL, LEVEL, RecordKind
from tests.partitions.cluster import Cluster


class Hub(Cluster):
    """One partition, and what is asked of it as a whole."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings
        self.owner = self.join("first", **settings)
        self.until(self.owner.owns)

    def raise_to(self, level: int, instance_id: str = "") -> tuple[ReplyCode, str]:
        """The answer to the request."""
        self._asked += 1
        request = f"request-{self._asked}"
        body = Inbound(instance_id, ms.RaiseLevel(level), request, reply_to=ReplyTo("client", 0))
        self.put(encode_inbound(body))
        self.until(lambda: self.replies(request))
        reply = self.replies(request)[0]
        return ReplyCode(reply.code), str(orjson.loads(reply.body)["message"])

    def level(self) -> tuple[int, int]:
        """The partition's level, and the newest one that its owner reads."""
        view = orjson.loads(self.ask("", Query(QueryKind.PARTITION), partition=0).body)
        return view["level"], view["reads"]

    def raised(self) -> list[int]:
        """What the records of the log say."""
        accepted = self.histories[0].accepted()
        return [decode_level(each.body, each.format).level for each in accepted if each.kind == RecordKind.LEVEL]

    def take_over(self) -> None:
        self.kill(self.owner)
        self.owner = self.join(f"owner-{len(self.claims())}", **self.settings)
        self.until(self.owner.owns)

    def flags_of(self, instance_id: str) -> tuple[int, ...]:
        self.send(instance_id, ms.Start("idle"))
        self.settle()
        [started] = [event for event in self.events(instance_id) if isinstance(event, ev.ExecutionStarted)]
        return started.flags


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> int:
    """This build as if it knew one level more, which brought an engine flag."""
    for module in (levels, queries, tenure):
        monkeypatch.setattr(module, "LEVEL", LEVEL + 1)
    monkeypatch.setattr(flags, "FLAGS", {1: LEVEL, 2: LEVEL + 1})
    return LEVEL + 1


def test_a_hub_begins_at_the_first_level_and_says_what_its_owner_reads() -> None:
    hub = Hub()

    assert (FIRST_LEVEL, LEVEL) == hub.level()
    assert {FIRST_LEVEL} == {each.format for each in hub.histories[0].accepted()}
    [claim] = [each for each in hub.histories[0].accepted() if each.kind == RecordKind.CLAIM]
    assert LEVEL == decode_claim(claim.body, claim.format).level


def test_a_level_that_the_owner_does_not_know_is_refused_and_nothing_is_written() -> None:
    hub = Hub()

    code, message = hub.raise_to(LEVEL + 1)

    assert ReplyCode.REFUSED == code
    assert f"knows formats up to level {LEVEL}, and not {LEVEL + 1}: deploy newer workers first" in message
    assert ([], (FIRST_LEVEL, LEVEL)) == (hub.raised(), hub.level())


def test_a_level_is_raised_once_by_a_record_and_holds_for_every_later_owner(newer: int) -> None:
    hub = Hub()
    assert (FIRST_LEVEL, newer) == hub.level()
    assert (1,) == hub.flags_of("before")

    assert [(ReplyCode.OK, "")] * 2 == [hub.raise_to(newer), hub.raise_to(newer)]
    assert (1, 2) == hub.flags_of("after")
    hub.take_over()

    assert ([newer], (newer, newer)) == (hub.raised(), hub.level())
    assert (1, 2) == hub.flags_of("later")
    assert (ReplyCode.REFUSED, f"its format level is {newer} already, and never goes back") == hub.raise_to(FIRST_LEVEL)
    hub.check()


def test_a_partition_that_nobody_else_can_own_is_raised_without_being_asked(newer: int) -> None:
    hub = Hub(alone=True)
    hub.settle()
    hub.take_over()

    assert ([newer], (newer, newer)) == (hub.raised(), hub.level())


def test_an_owner_of_an_older_build_writes_what_it_knows_in_a_hub_that_was_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        for module in (levels, queries, tenure):
            patched.setattr(module, "LEVEL", LEVEL + 1)
        hub = Hub(alone=True)
        hub.settle()
    hub.take_over()
    hub.send("i", ms.Start("order", b"5"))
    hub.settle()

    assert (LEVEL + 1, LEVEL) == hub.level()
    assert 5 == hub.view("i")["result"]
    hub.take_over()
    assert [LEVEL + 1] == hub.raised()
    assert LEVEL == WrittenLevel(LEVEL + 1).number
    hub.check()


def test_to_raise_the_level_is_asked_of_no_instance() -> None:
    hub = Hub()
    hub.put(encode_inbound(Inbound("i", ms.RaiseLevel(1))))
    hub.settle()

    [(headers, _)] = hub.dead_letters()
    assert "asked of a partition, and not of an instance" in headers["perdure-reason"]
