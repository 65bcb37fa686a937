"""Answers of others: a client on a hub, and one of an API, that answer anything. It raises what it promises, and goes on."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.client import AsyncClient, Client
from perdure.errors import HubRefused, PerdureError
from perdure.partitions.kafka.parts import PART, PARTS_MAX, Joining
from perdure.partitions.ports import HubIdentity, Log, LogRecord
from perdure.schemas.codec import decode_inbound, encode_reply
from perdure.schemas.messages import Inbound, Reply, ReplyCode
from tests.client.hub import RunningHub
from tests.fuzzing import fuzzed

QUIET = fuzzed(25)
PLENTY_SECONDS = 20.0
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
VIEW: dict[str, Any] = {
    "instance_id": "i", "name": "echo", "status": "COMPLETED", "created_at": "2026-01-31T12:00:00.000Z",
    "updated_at": "2026-01-31T12:00:00.000Z", "execution_id": "1-1", "generation": 1, "input": None, "result": 1, "failure": None,
    "custom_status": None, "tags": {}, "parent_instance_id": None, "held": None, "history_events": 2, "partition": 0, "as_of": 1,
}  # fmt: skip
GOOD: list[dict[str, Any]] = [
    VIEW,
    {"instance_id": "i", "execution_id": "1-1", "created": True, "message": ""},
    {"instances": [VIEW], "next": None},
    {
        "instance": VIEW,
        "turns": [{"offset": 1, "time": "2026-01-31T12:00:00.000Z", "decided": True, "events": []}],
        "next": None,
    },
    {"type": "urn:perdure:problem:instance-not-found", "title": "", "status": 404, "detail": "no instance"},
]


def spoiled() -> st.SearchStrategy[bytes]:
    """A good answer with a field of it replaced or left out, any JSON, and what is no JSON."""

    def spoil(answer: dict[str, Any], at: int, value: Any, left_out: bool) -> bytes:
        name = sorted(answer)[at % len(answer)]
        changed = {key: each for key, each in answer.items() if key != name}
        return json.dumps(changed if left_out else {**changed, name: value}).encode()

    good = st.sampled_from(GOOD)
    spoiling = st.builds(spoil, good, st.integers(0, 30), JSON, st.booleans())
    noise = st.binary(max_size=20) | st.sampled_from([b"[" * 100_000, b"\xff", b"", b"1" * 10_000])
    return (
        spoiling
        | JSON.map(lambda value: json.dumps(value).encode())
        | good.map(lambda answer: json.dumps(answer).encode())
        | noise
    )


async def ask_everything(client: AsyncClient) -> list[type[BaseException] | None]:
    """Every call that reads an answer; what it raised."""
    calls: list[Callable[[], Any]] = [
        lambda: client.start("echo", 1, instance_id="i"),
        lambda: client.instance("i").get(),
        lambda: client.instance("i").wait(0.1),
        lambda: client.instance("i").result(0.1),
        lambda: client.instance("i").history(),
        lambda: client.instance("i").raise_event("go"),
        lambda: client.instance("i").purge(),
        client.list,
    ]
    raised: list[type[BaseException] | None] = []
    for call in calls:
        try:
            await call()
        except PerdureError as error:
            raised.append(type(error))
        else:
            raised.append(None)
    return raised


# Over a log.


class EvilHub:
    """A hub (`partitions.ports.Log`, as far as a client goes) that answers every request with what a test says."""

    identity = HubIdentity("evil", "cluster", "", 1)
    record_bytes_max = 1_000_000

    def __init__(self, answers: Callable[[Inbound], Sequence[bytes]]) -> None:
        self._answers = answers
        self._replies: SimpleQueue[bytes] = SimpleQueue()
        self.publisher = self
        self.partition = 0

    def publish_inbox(self, partition: int, key: str, value: bytes, delivered: Callable[[str | None], None]) -> None:
        for reply in self._answers(decode_inbound(value)):
            self._replies.put(reply)

    def open_replies(self, client_id: str) -> "EvilHub":
        return self

    def take(self, timeout_seconds: float) -> list[LogRecord]:
        try:
            return [LogRecord(0, b"", self._replies.get(timeout=timeout_seconds), 0)]
        except Empty:
            return []

    def wait(self, timeout_seconds: float) -> None:
        """Nothing is on its way."""

    def close(self) -> None:
        """Nothing is open."""


def reply_to(request: Inbound, body: bytes, code: int = ReplyCode.OK) -> bytes:
    assert request.reply_to is not None
    return encode_reply(Reply(request.reply_to.client_id, request.request_id, code, body))


def over(answers: Callable[[Inbound], Sequence[bytes]], timeout: float = 0.1) -> AsyncClient:
    """`timeout`: plenty, where one particular answer is to come."""
    return AsyncClient.over(cast("Log", EvilHub(answers)), timeout=timeout)


@given(spoiled(), st.sampled_from([*ReplyCode, 99, -1]))
@QUIET
def test_an_answer_of_any_shape_raises_what_a_client_promises(body: bytes, code: int) -> None:
    async def ask() -> None:
        client = over(lambda request: [reply_to(request, body, code)])
        try:
            await ask_everything(client)
        finally:
            await client.close()

    asyncio.run(ask())


def test_a_history_and_a_list_that_never_end_come_to_an_end() -> None:
    async def ask(answer: dict[str, Any], call: Callable[[AsyncClient], Any], timeout: float) -> BaseException | None:
        client = over(lambda request: [reply_to(request, json.dumps(answer).encode())], timeout)
        began = time.monotonic()
        try:
            await call(client)
        except PerdureError as error:
            return error
        finally:
            await client.close()
            assert time.monotonic() - began < 10
        return None

    endless = {**GOOD[3], "next": 1}
    refused = asyncio.run(ask(endless, lambda client: client.instance("i").history(), PLENTY_SECONDS))
    assert isinstance(refused, HubRefused)
    asyncio.run(ask({"instances": [], "next": "AAAA"}, lambda client: client.list(limit=1000), 0.1))


def test_an_answer_about_another_instance_is_none() -> None:
    async def ask() -> None:
        body = json.dumps({**GOOD[1], "instance_id": "another"}).encode()
        client = over(lambda request: [reply_to(request, body)], PLENTY_SECONDS)
        try:
            with pytest.raises(HubRefused, match="it is about 'another'"):
                await client.start("echo", 1, instance_id="i")
        finally:
            await client.close()

    asyncio.run(ask())


def test_what_is_said_to_others_is_not_heard() -> None:
    """Answers with another client's id, another request's id, and bytes that are none, before the right one."""

    def answers(request: Inbound) -> list[bytes]:
        assert request.reply_to is not None
        mine, lie = request.reply_to.client_id, json.dumps({**VIEW, "result": "a lie"}).encode()
        return [
            b"", b"\xd2", b"\xff" * 100,
            encode_reply(Reply("another", request.request_id, ReplyCode.OK, lie)),
            encode_reply(Reply(mine, "another", ReplyCode.OK, lie)),
            encode_reply(Reply(mine, "", ReplyCode.OK, lie)),
            reply_to(request, json.dumps(VIEW).encode()),
            reply_to(request, lie),
        ]  # fmt: skip

    async def ask() -> None:
        client = over(answers, PLENTY_SECONDS)
        try:
            assert 1 == (await client.instance("i").get()).result
        finally:
            await client.close()

    asyncio.run(ask())


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    hub = RunningHub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.close()


def test_a_client_among_noise_works(hub: RunningHub) -> None:
    log = hub.log.share()
    over_it = threading.Event()

    def make_noise() -> None:
        number = 0
        while not over_it.wait(0.001):
            number += 1
            noise = encode_reply(Reply(f"c{number}", "r", ReplyCode.ENDED, b"[]"))
            for partition in range(log.identity.partition_count):
                log.publisher.publish_reply(partition, "", noise if number % 2 else noise[: number % 40])

    thread = threading.Thread(target=make_noise)
    thread.start()
    try:
        with Client.over(hub.log.share(), timeout=20) as client:
            for number in range(20):
                assert number == client.start("echo", number, instance_id=f"noise-{number}").result(timeout=20)
    finally:
        over_it.set()
        thread.join()
        log.close()


def test_a_reply_in_more_parts_than_any_has_is_not_kept() -> None:
    joining = Joining()
    for part in range(3 * PARTS_MAX):
        place = ((PART, f"x/{part}/{1 << 40}".encode()),)
        assert joining.take(LogRecord(part, b"client", bytes(1000), 0, place)) is None

    assert 0 == len(joining._incomplete)


# Over HTTP.


class EvilApi(BaseHTTPRequestHandler):
    """Answers every request alike."""

    answer: ClassVar[tuple[int, bytes]] = (200, b"")
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the base class calls them so

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def evil_api() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), EvilApi)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@given(body=spoiled(), status=st.sampled_from([200, 201, 202, 204, 301, 400, 401, 404, 409, 422, 500]))
@QUIET
def test_an_api_that_answers_anything_raises_what_a_client_promises(evil_api: str, body: bytes, status: int) -> None:
    EvilApi.answer = (status, b"" if status == 204 else body)

    async def ask() -> None:
        client = AsyncClient.http(evil_api, timeout=0.1)
        try:
            await ask_everything(client)
        finally:
            await client.close()

    asyncio.run(ask())
