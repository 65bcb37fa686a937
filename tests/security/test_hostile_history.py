"""A history that others wrote into: whoever knows the chain is the engine, and yet no reader of it hangs, guesses or falls over."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.audit import audit_records, read_log
from perdure.partitions.catch_up import PartitionRefused
from perdure.partitions.ports import LogRecord, LogTruncated
from perdure.schemas import records as rc
from perdure.schemas.codec import WireError, decode_envelope, encode_envelope, encode_inbound, encode_turn
from perdure.schemas.messages import Inbound, Start, Suspend
from perdure.schemas.record_codec import BODIES, FORMATS, _encode
from perdure.schemas.records import RecordKind
from tests.fuzzing import fuzzed
from tests.partitions.cluster import Cluster
from tests.partitions.histories import Writer
from tests.schemas.values import RECORDS, any_of

KINDS = st.sampled_from((*RecordKind, 0, 99))


def put_history(cluster: Cluster, values: Sequence[bytes | None]) -> None:
    writer = cluster.client.open_history(0)
    for value in values:
        writer.append("", value or b"")
    cluster.settle()


def read_by_everybody(values: Sequence[bytes | None]) -> None:
    """An owner works or says why not; an audit has its say in any case."""
    cluster = Cluster()
    put_history(cluster, values)
    audit_records(read_log(cluster.client), cluster.app)
    member = cluster.join()
    # Whoever does neither within all these rounds hangs, and whatever else it raises would be tried again for ever.
    with suppress(PartitionRefused, LogTruncated):
        cluster.until(member.owns, milliseconds=50)


def encoded(kind: int, body: object) -> bytes:
    try:
        return encode_turn(body) if isinstance(body, rc.TurnBody) else _encode(kind, body, 1)
    except WireError:
        return b""


BODY = st.sampled_from([(kind, cls) for kind, cls in BODIES.items() if cls in RECORDS and cls in FORMATS]).flatmap(
    lambda each: any_of(each[1]).map(lambda body: (each[0], encoded(each[0], body)))
)
QUIET = fuzzed(100)


@given(st.lists(st.tuples(KINDS, st.binary(max_size=60)), min_size=1, max_size=5))
@QUIET
def test_bodies_that_are_none_are_refused(bodies: list[tuple[int, bytes]]) -> None:
    values: list[bytes | None] = []
    writer = Writer.claim(values)
    for kind, body in bodies:
        values += writer.write(body, kind=kind)

    read_by_everybody(values)


@given(st.lists(BODY, min_size=1, max_size=5))
@QUIET
def test_bodies_with_absurd_fields_are_refused(bodies: list[tuple[int, bytes]]) -> None:
    values: list[bytes | None] = []
    writer = Writer.claim(values)
    for kind, body in bodies:
        values += writer.write(body, kind=kind)

    read_by_everybody(values)


def whole() -> list[LogRecord]:
    cluster = Cluster()
    cluster.join()
    for name in ("a", "b"):
        cluster.send(name, Start("family", b'["x%b"]' % name.encode()))
    cluster.until(lambda: {"a", "b"} <= cluster.ended().keys())
    return list(cluster.client.read_history(0, 0, cluster.client.span_history(0).end))


RECORDS_OF_ALL = whole()
WHOLE = [record.value for record in RECORDS_OF_ALL]


@given(
    st.integers(0, len(WHOLE) - 1),
    st.integers(0, 500),
    st.integers(0, 255),
    st.sampled_from(("byte", "cut", "gone", "twice")),
)
@QUIET
def test_a_history_that_was_edited_is_refused_and_audited(number: int, at: int, byte: int, how: str) -> None:
    values, value = list(WHOLE), WHOLE[number] or b""
    at %= len(value)
    if how == "byte":
        values[number] = value[:at] + bytes([byte]) + value[at + 1 :]
    elif how == "cut":
        values[number] = value[:at]
    elif how == "gone":
        del values[number]
    else:
        values.insert(number, value)

    read_by_everybody(values)


NO_MESSAGE, SUSPEND = b"\xf4 no message", encode_inbound(Inbound("a", Suspend(), "/r"))


@pytest.mark.parametrize(
    ("target", "sent", "reason"),
    [
        (1, [(1, NO_MESSAGE)], "expected first byte"),
        (0, [(1, NO_MESSAGE)], "expected first byte"),
        (1, [(1, SUSPEND), (3, SUSPEND)], "3 after 1"),
        (rc.DEAD_LETTER, [(1, NO_MESSAGE)], "not valid UTF-8"),
        (rc.DEAD_LETTER, [(1, b"[1]\nno headers")], "items"),
    ],
    ids=["no-message", "no-message-to-itself", "a-gap", "no-dead-letter", "no-headers"],
)
def test_a_send_that_no_owner_decides_refuses_its_partition_and_says_which(
    target: int, sent: list[tuple[int, bytes]], reason: str
) -> None:
    values: list[bytes | None] = []
    writer = Writer.claim(values, partition_count=2)
    sends = tuple(rc.Send(target, sequence, message) for sequence, message in sent)
    values += writer.write(encode_turn(rc.TurnBody(1_000, sends=sends)), kind=RecordKind.PARTITION, instance_id="")
    cluster = Cluster(2)
    put_history(cluster, values)
    member = cluster.join()

    with pytest.raises(
        PartitionRefused, match=rf"the history of partition 0 says to send .* {sent[-1][0]}: .*{reason}"
    ):
        cluster.until(member.owns, milliseconds=50)


@pytest.mark.parametrize(
    "change", [{"kind": RecordKind.CLAIM}, {"epoch": -1}, {"epoch": 99}, {"offset": 99}, {"digest": b"\0" * 16}]
)
def test_an_edit_that_would_void_what_follows_in_good_order_is_reported(change: dict[str, Any]) -> None:
    """A turn that is made a claim, or one of no epoch, ends its owner's epoch, and all that the owner wrote after it would be void."""
    records = list(RECORDS_OF_ALL)
    edited = encode_envelope(replace(decode_envelope(records[1].value or b""), **change))
    records[1] = replace(records[1], value=edited)
    report = audit_records({0: records})

    assert () == audit_records({0: RECORDS_OF_ALL}).findings
    assert (1, 2) == (report.findings[0].offset, report.exit_code)
