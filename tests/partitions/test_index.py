"""Listing by the index equals filtering and sorting a plain list."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.partitions import index
from perdure.partitions.header import (
    INPUT_INLINE_BYTES_MAX,
    InstanceHeader,
    decode_header,
    encode_header,
    encode_standing,
    header_key,
    header_of,
    header_view,
    progress_change,
    read_header,
    stands,
)
from perdure.partitions.index import ListQuery, decode_list_query, index_changes, list_instances
from perdure.partitions.memory.store import MemoryStores
from perdure.partitions.ports import Store
from perdure.partitions.rocksdb import RocksStores
from perdure.schemas.events import ExecutionStarted, Failure, Parent, Status
from tests.actors.lives import NAME, Life

CREATED = InstanceHeader("order-1", "ship", Status.RUNNING, 1_000, 1_000, "7-1")


def keep(store: Store, *headers: InstanceHeader) -> None:
    for header in headers:
        store.write(index_changes(read_header(store, header.instance_id), header))


def ids(store: Store, **query: object) -> list[str]:
    headers, cursor = list_instances(store, ListQuery(**query))  # type: ignore[arg-type]
    assert cursor is None
    return [header.instance_id for header in headers]


names = st.sampled_from(["a", "aa", "b", "é"])
statuses = st.sampled_from([Status.PENDING, Status.RUNNING, Status.COMPLETED, Status.FAILED])
tags = st.dictionaries(st.sampled_from(["k", "kk"]), st.sampled_from(["v", "w", ""]), max_size=2)
times = st.integers(0, 5) | st.just(2**45)
headers = st.builds(
    InstanceHeader,
    instance_id=st.text("ab/\x00é", max_size=3),
    name=names,
    status=statuses,
    created_ms=times,
    updated_ms=times,
    execution_id=st.just("0-1"),
    input=st.sampled_from([b"null", b'"in"', b'"%s"' % bytes(b"x" * INPUT_INLINE_BYTES_MAX)]),
    tags=tags,
    held_kind=st.sampled_from(["", "", "nondeterminism"]),
)
queries = st.builds(
    ListQuery,
    statuses=st.lists(statuses, max_size=2, unique=True).map(tuple),
    name=st.none() | names,
    prefix=st.text("ab/", max_size=1),
    tags=tags,
    created_from_ms=st.none() | times,
    created_to_ms=st.none() | times,
    held=st.none() | st.booleans(),
    limit=st.integers(1, 4),
)


def matches(header: InstanceHeader, query: ListQuery) -> bool:
    return (
        (not query.statuses or header.status in query.statuses)
        and query.name in (None, header.name)
        and header.instance_id.startswith(query.prefix)
        and query.tags.items() <= header.tags.items()
        and (query.created_from_ms is None or header.created_ms >= query.created_from_ms)
        and (query.created_to_ms is None or header.created_ms < query.created_to_ms)
        and query.held in (None, bool(header.held_kind))
    )


@settings(max_examples=400)
@given(steps=st.lists(st.tuples(headers, st.booleans()), max_size=30), query=queries)
def test_pages_together_are_the_filtered_list_newest_first(
    steps: list[tuple[InstanceHeader, bool]], query: ListQuery
) -> None:
    store = MemoryStores().open(0)
    kept: dict[str, InstanceHeader] = {}
    for header, stays in steps:
        store.write(index_changes(kept.pop(header.instance_id, None), header if stays else None))
        if stays:
            kept[header.instance_id] = header
    expected = sorted(
        (header for header in kept.values() if matches(header, query)),
        key=lambda header: (-header.created_ms, header.instance_id.encode()),
    )
    found: list[InstanceHeader] = []
    cursor: str | None = None
    while True:
        page, cursor = list_instances(store, replace(query, after=cursor))
        found += page
        assert len(page) <= query.limit
        if cursor is None:
            break

    assert expected == found
    assert all(kept.get(header.instance_id) == read_header(store, header.instance_id) for header, _ in steps)


@settings(max_examples=200)
@given(first=headers, second=headers)
def test_a_change_touches_only_what_differs_and_a_purge_leaves_nothing(
    first: InstanceHeader, second: InstanceHeader
) -> None:
    second = replace(second, instance_id=first.instance_id)
    store = MemoryStores().open(0)
    store.write(index_changes(None, first))
    changes = index_changes(first, second)
    header, *entries = [change for change in changes if not change[0].startswith(b"p")]
    before = {key: store.get(key) for key, _ in entries}
    store.write(changes)
    fresh = MemoryStores().open(0)
    fresh.write(index_changes(None, second))
    expected = list(fresh.scan(b"", b"\xff"))

    assert expected == list(store.scan(b"", b"\xff"))
    assert header[0].startswith(b"h")
    assert all(before[key] != value for key, value in entries)
    store.write(index_changes(second, None))
    assert [] == list(store.scan(b"", b"\xff"))


def test_a_prefix_alone_keeps_to_the_creation_window() -> None:
    store = MemoryStores().open(0)
    keep(store, *(replace(CREATED, instance_id=f"order-{number}", created_ms=number) for number in range(9)))

    assert ["order-8", "order-7"] == ids(store, prefix="order-", created_from_ms=7)
    assert ["order-1", "order-0"] == ids(store, prefix="order-", created_to_ms=2)
    assert ["order-4"] == ids(store, prefix="order-", created_from_ms=4, created_to_ms=5)
    assert [] == ids(store, prefix="order-", created_from_ms=9)


def test_a_turn_that_changes_no_entry_writes_the_header_alone() -> None:
    old = replace(CREATED, input=b'"%s"' % bytes(b"x" * 10_000), tags={"k": "v"})
    changes = index_changes(old, replace(old, updated_ms=2_000, history_events=9))

    assert [b"horder-1"] == [key for key, _ in changes]
    assert len(changes[0][1] or b"") < 300


def test_a_list_over_many_reads_only_the_headers_that_match(tmp_path: Path) -> None:
    stores = RocksStores(tmp_path)
    store = stores.open(0)
    for number in range(3_000):
        done = Status.COMPLETED if number % 100 else Status.RUNNING
        keep(
            store, replace(CREATED, instance_id=f"i{number:05}", created_ms=number, status=done, name=f"n{number % 7}")
        )
    reads = 0
    get = store.get

    def counted(key: bytes) -> bytes | None:
        nonlocal reads
        reads += 1
        return get(key)

    store.get = counted  # type: ignore[method-assign]
    found = ids(store, statuses=(Status.RUNNING,), name="n0", created_from_ms=1_000)
    store.get = get  # type: ignore[method-assign]
    store.close()
    stores.close()

    assert [f"i{number:05}" for number in (2800, 2100, 1400)] == found
    assert 3 == reads


def test_a_long_search_ends_early_with_a_cursor_to_go_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "ENTRIES_EXAMINED_MAX", 10)
    monkeypatch.setattr(index, "PREFIX_IDS_MAX", 3)
    store = MemoryStores().open(0)
    keep(store, *(replace(CREATED, instance_id=f"common-{n}", created_ms=100 + n) for n in range(50)))
    keep(store, *(replace(CREATED, instance_id=f"rare-{n}", created_ms=n) for n in range(5)))
    pages, cursor, found = 0, None, []
    while pages == 0 or cursor is not None:
        page, cursor = list_instances(store, ListQuery(prefix="rare-", after=cursor))
        found += [header.instance_id for header in page]
        pages += 1

    assert [f"rare-{n}" for n in (4, 3, 2, 1, 0)] == found
    assert pages > 5


FAILURE = Failure("ValueError", "no", "line 1", Failure("OSError", "disk"), retriable=False, details=b"[1]")
FULL = InstanceHeader(
    "a", "n", Status.FAILED, 1767323045678, 1767323046000, "1f-2", 2, b'{"big":12345678901234567890123}', b"[1.0]",
    FAILURE, b'"half"', {"k": "v"}, "parent", "unknown_name", "no such activity", 12, 3,
)  # fmt: skip


def test_a_header_survives_its_encoding() -> None:
    assert (FULL, True) == decode_header("a", encode_header(FULL))


@given(st.integers(0, 1 << 32), st.integers(2, 20))
@settings(max_examples=300)
def test_where_a_header_stands_only_its_progress_is_written_and_elsewhere_something_else_differs(
    seed: int, turns: int
) -> None:
    life = Life(seed)
    for _ in range(turns):
        lived = life.live()
        before, after = lived.before, lived.turn.state
        if before is None or after is None:
            continue
        old, new = header_of(before), header_of(after)
        moved = replace(old, updated_ms=new.updated_ms, history_events=new.history_events, turns=new.turns)
        assert stands(old, after) == (moved == new and not new.status.terminal and not new.held_kind)
        assert not stands(replace(old, held_kind="nondeterminism"), after)
        assert not stands(old, replace(after, unknown_kind=99))
        if stands(old, after):
            key, value = progress_change(encode_standing(old), after)
            assert (key, new, True) == (header_key(NAME), *decode_header(NAME, value or b""))


def test_the_view_shows_payloads_as_they_were_and_times_as_text() -> None:
    text = orjson.dumps(header_view(FULL, 5, 77))
    view = orjson.loads(text)

    assert b'"input":{"big":12345678901234567890123},' in text
    assert ("FAILED", "2026-01-02T03:04:05.678Z", 5, 77) == (
        view["status"], view["created_at"], view["partition"], view["as_of"],
    )  # fmt: skip
    assert {"kind": "unknown_name", "reason": "no such activity"} == view["held"]
    assert ("ValueError", "OSError", None) == (
        view["failure"]["type"], view["failure"]["cause"]["type"], view["failure"]["cause"]["cause"],
    )  # fmt: skip


def test_the_header_of_a_state_shows_what_the_state_holds() -> None:
    from perdure.actors.instance import apply

    parent = Parent("mother", "3-1", 4, 1)
    started = ExecutionStarted("9-1", "ship", b"[1]", 5, 5, 1, parent, {"k": "v"})
    header = header_of(apply(None, started, instance_id="x"), "unknown_name", "why")

    assert ("x", "ship", 5, "9-1", b"[1]", "mother", {"k": "v"}, "unknown_name", 1) == (
        header.instance_id, header.name, header.created_ms, header.execution_id, header.input, header.parent_instance_id,
        header.tags, header.held_kind, header.history_events,
    )  # fmt: skip


def test_the_arguments_of_a_list_are_read() -> None:
    arguments = b'{"status":["RUNNING","FAILED"],"name":"n","prefix":"p","tag":{"k":"v"},"created_from":1,"created_to":9,"held":false,"limit":5000,"after":"YQ=="}'
    expected = ListQuery((Status.RUNNING, Status.FAILED), "n", "p", {"k": "v"}, 1, 9, False, 1000, "YQ==")

    assert expected == decode_list_query(arguments)
    assert ListQuery() == decode_list_query(b"{}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (b"[]", "JSON object"),
        (b'{"state":1}', "does not know state; it knows after, created_from"),
        (b'{"status":["DONE"]}', "status must be a list of PENDING, RUNNING"),
        (b'{"held":1}', "held must be true, false or null, not 1"),
        (b'{"limit":"5"}', "limit must be a whole number; found '5'"),
        (b'{"name":7}', "name must be a string"),
        (b'{"tag":{"k":1}}', "tag must be an object of strings"),
        (b"{", "unexpected end"),
    ],
)
def test_arguments_that_are_wrong_are_refused_with_what_is_allowed(arguments: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_list_query(arguments)


def test_a_cursor_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="pass on the `next`"):
        list_instances(MemoryStores().open(0), ListQuery(after="!"))
