"""The HTTP API among hostile callers: pages in a browser on this machine, slow and huge requests, paths that mean something else."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from perdure import health
from perdure.client import AsyncClient
from perdure.health import HealthServer
from perdure.serve import ApiServer, create_api
from perdure.serve.boundary import BODY_BYTES_MAX
from perdure.serve.connection import PatientConnection
from perdure.serve.server import bind
from tests.client.hub import RunningHub
from tests.e2e.workers import until
from tests.fuzzing import fuzzed

TOKEN = "the-token-of-this-test"
BRIEF_SECONDS = 0.4


class Hasty(PatientConnection):
    """The product's connection, for a test that does not wait as long."""

    head_seconds = BRIEF_SECONDS
    body_seconds = BRIEF_SECONDS


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    hub = RunningHub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.close()


def serve(hub: RunningHub, token: str, connection: type[PatientConnection] = PatientConnection) -> ApiServer:
    server = ApiServer(create_api(AsyncClient.over(hub.log.share()), token), bind("127.0.0.1", 0), connection)
    server.start()
    return server


@pytest.fixture(scope="module")
def http(hub: RunningHub) -> Iterator[httpx.Client]:
    server = serve(hub, "")
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
        yield client
    server.close()


@pytest.fixture(scope="module")
def guarded(hub: RunningHub) -> Iterator[httpx.Client]:
    server = serve(hub, TOKEN)
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
        yield client
    server.close()


@pytest.fixture(scope="module")
def hasty(hub: RunningHub) -> Iterator[tuple[str, int]]:
    server = serve(hub, "", Hasty)
    host, port = server.url.removeprefix("http://").split(":")
    yield host, int(port)
    server.close()


# Who may come in.


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \xe4\xf6",
        "Bearer a b",
    ],
)
def test_no_other_value_than_the_token_opens_it(guarded: httpx.Client, value: str) -> None:
    for path in ("/v1/instances", "/metrics", "/docs", "/openapi.json", "/nothing", "/healthz/../v1/instances"):
        refused = guarded.get(path, headers={"Authorization": value.encode("latin-1")})
        assert (401, "Bearer") == (refused.status_code, refused.headers["www-authenticate"])
        assert TOKEN not in refused.text


def test_the_token_counts_in_its_header_alone(guarded: httpx.Client) -> None:
    assert 401 == guarded.get("/v1/instances", params={"token": TOKEN, "access_token": TOKEN}).status_code
    assert 401 == guarded.get("/v1/instances", headers={"Cookie": f"token={TOKEN}", "X-Token": TOKEN}).status_code
    assert 200 == guarded.get("/v1/instances", headers={"Authorization": f"bearer {TOKEN}"}).status_code


def test_probes_tell_nobody_more_than_whether(guarded: httpx.Client) -> None:
    assert {"status": "ok"} == guarded.get("/healthz").json()
    assert {"ready": True} == guarded.get("/readyz").json()


def test_an_api_that_cannot_reach_its_brokers_does_not_say_where_they_are() -> None:
    properties = {"security.protocol": "ssl", "ssl.ca.location": "/no/such/file"}
    client = AsyncClient.kafka("hub", "brokers.invalid:9092", properties=properties)
    server = ApiServer(create_api(client, TOKEN), bind("127.0.0.1", 0))
    server.start()
    try:
        answer = httpx.get(f"{server.url}/readyz", trust_env=False, timeout=60)
    finally:
        server.close()

    assert 503 == answer.status_code
    assert not re.search(r"brokers\.invalid|/no/such", answer.text)


@pytest.mark.parametrize(
    "host", ["example.org", "127.0.0.1.example.org", "localhost.example.org", "[::ffff:1.2.3.4]", "[::", ""]
)
def test_a_name_that_was_bound_to_this_machine_does_not_reach_it(http: httpx.Client, host: str) -> None:
    """DNS rebinding: the page's own name leads here, so that its scripts may read the answers."""
    refused = http.get("/v1/instances", headers={"Host": host})
    assert (403, "loopback" in refused.text) == (refused.status_code, True)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8080", "127.9.9.9"])
def test_this_machine_by_any_of_its_names_is_let_in(http: httpx.Client, host: str) -> None:
    assert 200 == http.get("/v1/instances", headers={"Host": host}).status_code


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Origin": "http://[::"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_starts_nothing_and_reads_nothing(http: httpx.Client, headers: dict[str, str]) -> None:
    body = {"name": "echo", "instance_id": "from-a-page"}
    for send in (
        lambda: http.post("/v1/instances", json=body, headers=headers),
        lambda: http.post("/v1/instances", content=json.dumps(body), headers={**headers, "Content-Type": "text/plain"}),
        lambda: http.get("/v1/instances", headers=headers),
        lambda: http.get("/metrics", headers=headers),
    ):
        assert 403 == send().status_code
    assert 404 == http.get("/v1/instances/from-a-page").status_code


def test_a_page_of_its_own_may_ask(http: httpx.Client) -> None:
    headers = {"Origin": str(http.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert 200 == http.get("/v1/instances", headers=headers).status_code


def test_no_page_is_ever_allowed_across_sites(http: httpx.Client) -> None:
    asked = {"Origin": "http://example.org", "Access-Control-Request-Method": "POST"}
    for answer in (http.options("/v1/instances", headers=asked), http.get("/v1/instances"), http.get("/docs")):
        assert [] == [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_is_data_for_its_caller_alone(http: httpx.Client, guarded: httpx.Client) -> None:
    answers = [http.get(path) for path in ("/v1/instances", "/v1/instances/none", "/nothing", "/docs", "/metrics")]
    answers += [http.delete("/docs"), http.get("/v1/instances", headers={"Host": "x"}), guarded.get("/v1/instances")]
    for answer in answers:
        assert "nosniff" == answer.headers["x-content-type-options"]
        assert "no-store" == answer.headers["cache-control"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


def test_the_description_loads_and_runs_nothing(http: httpx.Client) -> None:
    page = http.get("/docs").text
    assert "/v1/instances/{instance_id}/history" in page
    assert not re.search(r"<script|<link|<img|<iframe|src=|https?://|on\w+=", page, re.IGNORECASE)


# How much, how deep, how long.


@pytest.mark.parametrize("path", ["/v1/instances", "/v1/instances/i/events/go", "/v1/instances/i/terminate"])
def test_a_body_is_neither_too_large_nor_too_deep(http: httpx.Client, path: str) -> None:
    kind = {"Content-Type": "application/json"}
    deep = b"[" * 100_000 + b"]" * 100_000
    named = b'{"name": "echo", "reason": %b, "input": %b}'
    for content in (deep, named % (deep, deep), b'{"a":' * 50_000, b"\xff\xfe", b"{", b"[" * 500 + b"]" * 500):
        refused = http.post(path, content=content, headers=kind)
        assert refused.status_code in (400, 422), refused.text
        assert "urn:perdure:problem:" in refused.json()["type"]
    large = http.post(path, content=b" " * (BODY_BYTES_MAX + 1), headers=kind)
    assert 413 == large.status_code

    def pieces() -> Iterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 65_536 + 2):
            yield b" " * 65_536

    assert 413 == http.post(path, content=pieces(), headers=kind).status_code


def talk(address: tuple[str, int], *pieces: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """Send piece after piece; return all that comes back until the other side closes, and after how long it did."""
    began = time.monotonic()
    with socket.create_connection(address, 10) as connection:
        said = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            while data := connection.recv(65_536):
                said += data
        except ConnectionError:
            pass
    return said, time.monotonic() - began


def trickle(head: bytes) -> Iterator[bytes]:
    yield head
    for _ in range(200):
        yield b"x"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"POST /v1/instances HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
        b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
    ],
    ids=["nothing", "head", "body", "body that nobody reads"],
)
def test_a_request_that_trickles_in_is_cut_off(hasty: tuple[str, int], head: bytes) -> None:
    pieces = trickle(head) if head else ()
    _, seconds = talk(hasty, *pieces, pause=BRIEF_SECONDS / 8)

    assert seconds < 200 * BRIEF_SECONDS / 8


def heard(address: tuple[str, int], path: str) -> httpx.Response:
    """An answer of a server that hangs up on whom a slow machine keeps from asking in time."""
    answers: list[httpx.Response] = []

    def ask() -> bool:
        with suppress(httpx.TransportError):
            answers.append(httpx.get(f"http://{address[0]}:{address[1]}{path}", timeout=20, trust_env=False))
        return bool(answers)

    until(ask)
    return answers[0]


def test_an_answer_may_take_longer_than_a_request(http: httpx.Client, hasty: tuple[str, int]) -> None:
    begun = http.post("/v1/instances", json={"name": "listen", "instance_id": "patience"})
    assert 201 == begun.status_code
    assert 202 == heard(hasty, f"/v1/instances/patience/result?wait={4 * BRIEF_SECONDS}").status_code


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /none HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET /none HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /none HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"GET /none HTTP/1.1\r\n\r\n",
        b"GET \x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /none HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v1/instances HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_costs_nothing(hasty: tuple[str, int], request_: bytes) -> None:
    with socket.create_connection(hasty, 10) as connection:
        connection.sendall(request_)
        said = connection.recv(65_536)

    assert b"Traceback" not in said
    assert re.match(rb"HTTP/1\.1 (4\d\d|200)", said) or not said, said[:200]
    assert 200 == heard(hasty, "/healthz").status_code


def test_methods_that_a_caller_made_up_are_not_counted_one_by_one(http: httpx.Client) -> None:
    for number in range(50):
        http.request(f"MADEUP{number}", "/v1/instances")
    assert "MADEUP" not in http.get("/metrics").text


# Paths.


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "a/b",
        "../x",
        "%2e%2e",
        "%2F",
        "a?b",
        "a#b",
        "a;b",
        "a\\b",
        "ü/漢",
        "a b",
        "a%00b",
        "a&b=c",
        "//",
        "{instance_id}",
    ],
)
def test_an_id_is_the_same_in_every_path(http: httpx.Client, name: str) -> None:
    begun = http.post("/v1/instances", json={"name": "echo", "input": name, "instance_id": name})
    assert 201 == begun.status_code, begun.text
    ended = http.get(f"{begun.headers['Location']}/result", params={"wait": 20})
    assert (200, name, name) == (ended.status_code, ended.json()["instance_id"], ended.json()["result"])
    assert 204 == http.delete(begun.headers["Location"]).status_code


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/instances/%00", 422),
        ("/v1/instances/a%0d%0aX-Injected:%201", 422),
        ("/v1/instances/%1b%5b2J", 422),
        ("/v1/instances/%e2%80%ae", 422),
        ("/v1/instances/%ff", 422),
        ("/v1/instances/%c0%ae", 422),
        ("/v1/instances/%ed%a0%80", 422),
        ("/v1/instances/" + "x" * 201, 422),
        ("/v1/instances/i/events/%0a", 422),
        ("/v1/instances/i/events/%ff", 422),
        ("/v1/../v1/instances", 404),
        ("/v1/instances/../../docs", 404),
        ("/v1/instances/..%2f..%2fdocs", 404),
        ("/v1//instances", 404),
        ("/v1/instances/", 404),
        ("//example.org/v1/instances", 404),
        ("/%76%31/instances", 404),
    ],
)
def test_a_path_is_what_it_says_and_nothing_else(http: httpx.Client, path: str, status: int) -> None:
    method = "POST" if "events" in path else "GET"
    raw = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    said, _ = talk(("127.0.0.1", http.base_url.port or 0), raw.encode())
    head, _, body = said.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 %d " % status), said
    assert not re.search(rb"x-injected|location:", head, re.IGNORECASE)
    if status == 422:
        assert json.loads(body)["type"].endswith("invalid-request")


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": "x" * 501},
        {"name": "a\nb"},
        {"name": "echo", "instance_id": "a\u202eb"},
        {"name": "echo", "instance_id": ""},
        {"name": "echo", "tags": {"a\r\n": "b"}},
        {"name": "echo", "tags": {"a": "\x1b[2J"}},
        {"name": "echo", "tags": {str(number): "" for number in range(65)}},
        {"name": "echo", "events": [{"name": "a\x00"}]},
        {"name": "echo", "events": [{"name": "go"}] * 1_001},
        {"name": "echo", "start_at": "nan"},
        {"name": "echo", "surplus": 1},
        {"name": ["echo"]},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_a_start_with_names_that_cannot_be_is_refused(http: httpx.Client, body: dict[str, Any]) -> None:
    refused = http.post("/v1/instances", json=body)
    assert 422 == refused.status_code, refused.text


@pytest.mark.parametrize("key", ["a\x01b", "x" * 201, "/of/the/engine", "\xfc\x80"])
def test_a_key_that_no_request_may_have_is_refused(http: httpx.Client, key: str) -> None:
    refused = http.post("/v1/instances", json={"name": "echo"}, headers={"Idempotency-Key": key.encode("latin-1")})
    assert refused.status_code in (400, 422)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("name", "input", "instance_id", "tags", "start_at", "if_exists", "replace_statuses", "events", "reason")


@fuzzed(40)
@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=5) | ANYTHING, st.text(max_size=30))
def test_no_body_and_no_query_fails_inside(http: httpx.Client, body: Any, text: str) -> None:
    # As Python writes it, with values that JSON has not.
    content, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
    answers = [
        http.post(f"/v1/instances{tail}", content=content, headers=kind)
        for tail in ("", "/i/terminate", "/i/events/go")
    ]
    answers += [
        http.get("/v1/instances", params={name: text}) for name in ("status", "tag", "created_from", "after", "limit")
    ]
    answers.append(http.get("/v1/instances/i/result", params={"wait": text}))
    assert [] == [answer.text for answer in answers if answer.status_code >= 500]


def test_what_fails_inside_is_told_to_the_log_and_not_to_the_caller(hub: RunningHub) -> None:
    class Broken(AsyncClient):
        @property
        def timeout(self) -> float:  # type: ignore[override]
            raise RuntimeError("a secret of the inside")

        @timeout.setter
        def timeout(self, value: float) -> None:
            """It is never kept."""

    server = ApiServer(create_api(Broken.over(hub.log.share())), bind("127.0.0.1", 0))
    server.start()
    try:
        with structlog.testing.capture_logs() as logs:
            answer = httpx.get(f"{server.url}/v1/instances", timeout=20)
    finally:
        server.close()

    assert (500, "internal") == (answer.status_code, answer.json()["type"].rpartition(":")[2])
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert ["request.failed"] == [line["event"] for line in logs if line["event"] == "request.failed"]


@pytest.mark.parametrize("verb", ["", "/i/events/go", "/i/cancel", "/i/terminate", "/i/suspend", "/i/resume"])
def test_who_goes_in_the_middle_of_a_request_is_no_fault_of_the_server(hub: RunningHub, verb: str) -> None:
    server = ApiServer(create_api(AsyncClient.over(hub.log.share())), bind("127.0.0.1", 0))
    server.start()
    try:
        with structlog.testing.capture_logs() as logs:
            host, port = server.url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port)), 10) as caller:
                head = f"POST /v1/instances{verb} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{"
                caller.sendall(head.encode())
            until(lambda: any(line["event"].startswith("request.") for line in logs))
            until(lambda: 'status="499"' in httpx.get(f"{server.url}/metrics", timeout=20).text)
    finally:
        server.close()

    assert [("request.abandoned", "info")] == [
        (line["event"], line["log_level"]) for line in logs if line["event"].startswith("request.")
    ]


# A worker's own port.


@pytest.fixture
def worker_port(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(health, "CONNECTION_SECONDS_MAX", BRIEF_SECONDS)
    server = HealthServer(hub.worker)
    yield server.port
    server.close()


def test_a_workers_port_keeps_no_connection_for_long(worker_port: int) -> None:
    for head in (b"", b"GET /metrics HTTP/1.1\r\nX: "):
        _, seconds = talk(("127.0.0.1", worker_port), *(trickle(head) if head else ()), pause=BRIEF_SECONDS / 8)
        assert seconds < 200 * BRIEF_SECONDS / 8


def test_a_workers_port_answers_after_a_flood(worker_port: int) -> None:
    flood = [socket.create_connection(("127.0.0.1", worker_port), 10) for _ in range(2 * health.CONNECTIONS_MAX)]

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{worker_port}/healthz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    until(answers)
    for each in flood:
        each.close()


@pytest.mark.parametrize(
    "head",
    [
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        f"POST / HTTP/1.1\r\nContent-Length: {'9' * 5000}\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "x" * 70_000,
        "\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST",
    ],
    ids=["a body", "no end", "less than nothing", "a long line", "nothing", "a version to come", "half a line"],
)
def test_a_workers_port_refuses_all_else_and_writes_nothing_of_it(worker_port: int, head: str) -> None:
    with structlog.testing.capture_logs() as logs:
        said, _ = talk(("127.0.0.1", worker_port), f"{head}\r\n".encode())

    assert (False, False) == (b"HTTP/1.0 2" in said, b"<" in said)
    assert [] == [line for line in logs if line["event"].startswith("health.")]


@pytest.mark.parametrize("path", ["/..", "/%2e%2e/etc/passwd", "/healthz/..", "/metrics%00", "/healthz\\"])
def test_a_workers_port_knows_three_paths(worker_port: int, path: str) -> None:
    answers: list[bytes] = []

    def ask() -> bool:
        """It hangs up on whom a slow machine keeps from asking in time."""
        answers.append(talk(("127.0.0.1", worker_port), f"GET {path} HTTP/1.0\r\n\r\n".encode())[0])
        return answers[-1] != b""

    until(ask)
    said = answers[-1]
    assert said.startswith(b"HTTP/1.0 404"), said[:100]
