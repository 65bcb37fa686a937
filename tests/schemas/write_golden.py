"""Write the golden bytes of a level, once, when it ships: `python -m tests.schemas.write_golden`. Never overwrites a file."""

from collections.abc import Iterator
from pathlib import Path

from perdure.schemas import codec
from tests.schemas import samples

GOLDEN = Path(__file__).parent / "golden" / "v1"


def encoded() -> Iterator[tuple[str, bytes]]:
    """Every kind of this level: the name of its file, and the bytes of its sample."""
    for event in samples.EVENTS:
        yield f"event.{type(event).__name__}", codec.encode_event(event)
    for message in samples.MESSAGES:
        yield f"message.{type(message.body).__name__}", codec.encode_inbound(message)
    yield "reply", codec.encode_reply(samples.REPLY)
    yield "envelope", codec.encode_envelope(samples.ENVELOPE)
    yield "manifest", codec.encode_manifest(samples.MANIFEST)
    yield "chunk", codec.encode_chunk(samples.CHUNK)
    yield "record.TurnBody", codec.encode_turn(samples.TURN)
    yield "record.Claim", codec.encode_claim(samples.CLAIM)
    yield "record.Checkpoint", codec.encode_checkpoint(samples.CHECKPOINT)
    yield "record.CarriedHistory", codec.encode_carried(samples.CARRIED)
    yield "record.LevelRaised", codec.encode_level(samples.LEVEL)
    yield "record.Attempt", codec.encode_attempt(samples.ATTEMPT)


def write_golden() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, data in encoded():
        path = GOLDEN / f"{name}.hex"
        if not path.exists():
            path.write_text(data.hex(" ", 32) + "\n", encoding="ascii")


if __name__ == "__main__":
    write_golden()
