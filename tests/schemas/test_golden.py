"""Every format that ever shipped is still read, and still written byte for byte (R12)."""

from collections.abc import Callable
from typing import Any

import pytest

from perdure.schemas import codec
from perdure.schemas import events as ev
from perdure.schemas.messages import Inbound
from perdure.schemas.record_codec import BODIES
from tests.schemas import samples
from tests.schemas.values import EVENTS, TRAVELLING
from tests.schemas.write_golden import GOLDEN, encoded

DECODE: dict[str, tuple[Callable[[bytes], Any], Any]] = {
    "reply": (codec.decode_reply, samples.REPLY),
    "envelope": (codec.decode_envelope, samples.ENVELOPE),
    "manifest": (codec.decode_manifest, samples.MANIFEST),
    "chunk": (codec.decode_chunk, samples.CHUNK),
    "record.TurnBody": (lambda data: codec.decode_turn(data, 1), samples.TURN),
    "record.Claim": (lambda data: codec.decode_claim(data, 1), samples.CLAIM),
    "record.Checkpoint": (lambda data: codec.decode_checkpoint(data, 1), samples.CHECKPOINT),
    "record.CarriedHistory": (lambda data: codec.decode_carried(data, 1), samples.CARRIED),
    "record.LevelRaised": (lambda data: codec.decode_level(data, 1), samples.LEVEL),
    "record.Attempt": (lambda data: codec.decode_attempt(data, 1), samples.ATTEMPT),
}


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text(encoding="ascii"))


@pytest.mark.parametrize("event", samples.EVENTS, ids=lambda event: type(event).__name__)
def test_golden_events_are_read(event: ev.HistoryEvent) -> None:
    assert event == codec.decode_event(event.KIND, golden(f"event.{type(event).__name__}"))


@pytest.mark.parametrize("message", samples.MESSAGES, ids=lambda message: type(message.body).__name__)
def test_golden_messages_are_read(message: Inbound) -> None:
    assert message == codec.decode_inbound(golden(f"message.{type(message.body).__name__}"))


@pytest.mark.parametrize("name", DECODE)
def test_golden_records_are_read(name: str) -> None:
    decode, expected = DECODE[name]

    assert expected == decode(golden(name))


def test_golden_bytes_are_written_again() -> None:
    assert {path.stem for path in GOLDEN.glob("*.hex")} == {name for name, _ in encoded()}
    for name, data in encoded():
        assert golden(name) == data, name


def test_every_kind_that_shipped_has_golden_bytes() -> None:
    assert set(EVENTS) == {type(event) for event in samples.EVENTS}
    assert set(TRAVELLING) == {type(body) for body in samples.BODIES}
    assert {cls.__name__ for cls in BODIES.values()} == set(samples.RECORDS)


def test_kind_numbers_are_those_that_shipped() -> None:
    assert list(range(1, 23)) == [event.KIND for event in samples.EVENTS]
    assert [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13] == [body.KIND for body in samples.BODIES]


def test_the_digest_is_the_one_that_shipped() -> None:
    assert bytes.fromhex("722318131588a7a200b17f8811fb78f4") == codec.extend_digest(samples.DIGEST, golden("envelope"))
