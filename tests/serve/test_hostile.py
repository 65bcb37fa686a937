"""Whatever is sent to the API is done or refused with a reason; it never breaks, and it answers the next one."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.client import AsyncClient
from perdure.serve import ApiServer, create_api
from perdure.serve.boundary import BODY_BYTES_MAX
from perdure.serve.server import bind
from tests.client.hub import LIMIT, RunningHub
from tests.fuzzing import fuzzed
from tests.serve.described import described

JSON = {"Content-Type": "application/json"}
FUZZ = fuzzed(150)


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    hub = RunningHub(tmp_path_factory.mktemp("hub"))
    server = ApiServer(create_api(AsyncClient.over(hub.log.share())), bind("127.0.0.1", 0))
    server.start()
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield described(client)
    server.close()
    hub.close()


def check(answer: httpx.Response) -> httpx.Response:
    """Done, or a problem that says what is wrong."""
    assert answer.status_code < 500, (answer.status_code, answer.text)
    if answer.status_code >= 400:
        assert "application/problem+json" == answer.headers["Content-Type"]
        problem = answer.json()
        assert answer.status_code == problem["status"]
        assert problem["detail"]
        assert problem["type"].startswith("urn:perdure:problem:")
        assert "Traceback" not in answer.text
    return answer


def post(http: httpx.Client, body: bytes, path: str = "/v1/instances") -> httpx.Response:
    return check(http.post(path, content=body, headers=JSON))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"null", 422),
        (b"[]", 422),
        (b"\xff\xfe", 422),
        (b"{" * 100_000, 422),
        (b"[" * 100_000 + b"]" * 100_000, 422),
        (b'{"name": "echo", "input": ' + b"[" * 300 + b"]" * 300 + b"}", 422),
        (b'{"name": "echo", "input": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}", 422),
        (b'{"name": "echo", "input": NaN}', 422),
        (b'{"name": "echo", "input": -Infinity}', 422),
        (b'{"name": "echo", "input": 1e999}', 422),
        (b'{"name": "echo", "input": "\\ud800"}', 422),
        (b'{"name": "\\ud800"}', 422),
        (b'{"name": "echo", "instance_id": "\\udfff"}', 422),
        (b'{"name": "echo", "tags": {"\\ud800": "x"}}', 422),
        (b'{"name": "echo", "events": [{"name": "\\ud800"}]}', 422),
        (b'{"name": "echo", "input": ' + b"9" * 5_000 + b"}", 422),
        (b'{"name": "echo", "name": "welcome", "input": "Ada"}', 201),
        (b'\xef\xbb\xbf{"name": "echo"}', 201),
        (b'{"name": 5}', 422),
        (b'{"name": "' + b"x" * 100_000 + b'"}', 422),
        (b'{"name": "echo", "instance_id": ""}', 422),
        (b'{"name": "echo", "instance_id": "  "}', 422),
        (b'{"name": "echo", "instance_id": "a\\u0000b"}', 422),
        (b'{"name": "echo", "instance_id": ["a"]}', 422),
        (b'{"name": "echo", "tags": {"k": 1}}', 422),
        (b'{"name": "echo", "tags": []}', 422),
        (b'{"name": "echo", "start_at": "tomorrow"}', 422),
        (b'{"name": "echo", "start_at": "2026-01-01T00:00:00"}', 422),
        (b'{"name": "echo", "start_at": 1e30}', 422),
        (b'{"name": "echo", "start_at": -1}', 201),
        (b'{"name": "echo", "if_exists": "ignore"}', 422),
        (b'{"name": "echo", "replace_statuses": ["LOST"]}', 422),
        (b'{"name": "echo", "events": [{"name": "", "input": 1}]}', 422),
        (b'{"name": "echo", "events": {"name": "x"}}', 422),
        (b'{"name": "echo", "input": null}', 201),
        (b'{"name": "echo"}', 201),
    ],
)
def test_a_start_is_done_or_refused_with_a_reason(http: httpx.Client, body: bytes, status: int) -> None:
    assert status == post(http, body).status_code


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/events/go", b"{", 422),
        ("/events/go", b"[" * 100_000, 422),
        ("/events/go", b"NaN", 422),
        ("/events/go", b'"\\ud800"', 422),
        ("/events/go", b"\xff", 422),
        ("/events/%00", b"1", 422),
        ("/events/" + "x" * 201, b"1", 422),
        ("/terminate", b'{"reason": NaN}', 422),
        ("/terminate", b'{"reason": {"code": 7}}', 422),
        ("/terminate", b'{"recursive": "maybe"}', 422),
        ("/cancel", b'{"reason": 5}', 422),
        ("/cancel", b'{"reason": "' + b"x" * 5_000 + b'"}', 422),
        ("/cancel", b'{"reason": "\\ud800"}', 422),
        ("/cancel", b'{"because": "x"}', 422),
        ("/suspend", b"[]", 422),
        ("/resume", b"5", 422),
    ],
)
def test_a_change_is_done_or_refused_with_a_reason(http: httpx.Client, path: str, body: bytes, status: int) -> None:
    http.post("/v1/instances", json={"name": "listen", "instance_id": "target", "if_exists": "return"})

    assert status == post(http, body, f"/v1/instances/target{path}").status_code
    assert "RUNNING" == check(http.get("/v1/instances/target")).json()["status"]


@pytest.mark.parametrize("path", ["", "/target/events/go", "/target/cancel", "/target/terminate", "/target/resume"])
@pytest.mark.parametrize("kind", [{}, {"Content-Type": "application/x-www-form-urlencoded"}])
def test_a_body_that_is_not_sent_as_json_is_told_to_be(http: httpx.Client, path: str, kind: dict[str, str]) -> None:
    answer = check(http.post(f"/v1/instances{path}", content=b'{"name": "echo"}', headers=kind))

    assert 415 == answer.status_code
    assert (
        f"the body is {kind.get('Content-Type', 'of no type')}; send it as application/json" == answer.json()["detail"]
    )


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/VND.api+JSON"])
def test_json_may_be_of_any_kind(http: httpx.Client, kind: str) -> None:
    assert (
        201
        == check(http.post("/v1/instances", content=b'{"name": "echo"}', headers={"Content-Type": kind})).status_code
    )


def test_json_that_is_none_is_told_with_its_place(http: httpx.Client) -> None:
    answer = post(http, b'{"name": "echo", "input": ["Ada", }')

    assert "the body is no JSON, at character 34: " in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"x" * (BODY_BYTES_MAX + 1), b'{"name": "echo", "input": "' + b"x" * LIMIT + b'"}'])
def test_what_is_too_large_is_refused_with_its_size(http: httpx.Client, body: bytes) -> None:
    answer = post(http, body)

    assert (413, "payload-too-large") == (answer.status_code, answer.json()["type"].rpartition(":")[2])
    assert "bytes" in answer.json()["detail"]


def test_a_body_without_a_length_is_no_way_around_the_limit(http: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 65_536 + 2):
            yield b"x" * 65_536

    try:
        answer = check(http.post("/v1/instances", content=pieces(), headers=JSON))
        assert 413 == answer.status_code
    except httpx.WriteError:  # cut off in the middle is refused, too
        pass
    assert 200 == http.get("/healthz").status_code


@pytest.mark.parametrize(
    "path",
    [
        "/v1/instances/%00", "/v1/instances/%ff", "/v1/instances/%", "/v1/instances/%zz", "/v1/instances/" + "x" * 8_000,
        "/v1/instances/..", "/v1/instances/%2e%2e", "/v1/instances/../../etc/passwd", "/v1/instances//", "//", "/v1",
        "/v1/instances/x/unknown", "/v1/instances?limit=1e9", "/v1/instances?limit=-1", "/v1/instances?limit=",
        "/v1/instances?after=%00", "/v1/instances?after=AAAA", "/v1/instances?tag=x", "/v1/instances?tag=%ff=%ff",
        "/v1/instances?created_from=x", "/v1/instances?created_to=9999999999999999", "/v1/instances?created_from=1970-01-01",
        "/v1/instances?held=maybe", "/v1/instances?prefix=%ed%a0%80", "/v1/instances?name=%00", "/v1/instances/x/result?wait=nan",
        "/v1/instances/x/result?wait=inf", "/v1/instances/x/result?wait=-1", "/v1/instances/x/result?wait=61",
    ],
)  # fmt: skip
def test_a_path_or_query_of_any_kind_is_answered(http: httpx.Client, path: str) -> None:
    answer = check(http.request("GET", httpx.URL(str(http.base_url) + path)))

    assert answer.status_code in (200, 400, 404, 405, 422)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "HEAD", "BREW"])
def test_another_method_is_refused(http: httpx.Client, method: str) -> None:
    assert 405 == http.request(method, "/v1/instances").status_code


@pytest.mark.parametrize("length", ["x", "-1", "99999999999999999999", "1e3"])
def test_a_length_that_is_none_is_refused(http: httpx.Client, length: str) -> None:
    with socket.create_connection((http.base_url.host, http.base_url.port or 0), timeout=20) as connection:
        connection.sendall(
            f"POST /v1/instances HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            "{}".encode()
        )
        first = connection.recv(65_536)

    assert first.split()[1] in (b"400", b"413")
    assert 200 == http.get("/healthz").status_code


def test_half_a_request_keeps_nobody_waiting(http: httpx.Client) -> None:
    with socket.create_connection((http.base_url.host, http.base_url.port or 0)) as connection:
        connection.sendall(b"POST /v1/instances HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        assert 200 == http.get("/v1/instances").status_code
    assert 200 == http.get("/v1/instances").status_code


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
_FIELDS = ("name", "input", "instance_id", "tags", "start_at", "if_exists", "replace_statuses", "events")


@FUZZ
@given(st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=6))
def test_any_start_is_done_or_refused(http: httpx.Client, body: dict[str, Any]) -> None:
    post(http, json.dumps(body).encode())


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(http: httpx.Client, body: bytes) -> None:
    post(http, body)
    post(http, body, "/v1/instances/target/events/go")


@FUZZ
@given(st.binary(min_size=1, max_size=40), st.binary(max_size=20))
def test_any_id_and_query_are_answered(http: httpx.Client, name: bytes, text: bytes) -> None:
    path = (
        f"/v1/instances/{quote_from_bytes(name, safe='')}?wait={quote_from_bytes(text)}&after={quote_from_bytes(text)}"
    )
    check(http.get(path))
    check(http.get(f"/v1/instances?prefix={quote_from_bytes(name, safe='')}&after={quote_from_bytes(text, safe='')}"))


@FUZZ
@given(st.text(st.characters(codec="latin-1", exclude_categories=("Cc",)), max_size=300).map(str.strip))
def test_any_key_of_a_request_is_taken_or_refused(http: httpx.Client, key: str) -> None:
    headers = {**JSON, "Idempotency-Key": key.encode("latin-1")}
    check(http.post("/v1/instances", content=b'{"name": "echo"}', headers=headers))


def test_what_was_thrown_at_it_broke_nothing(http: httpx.Client) -> None:
    started = http.post("/v1/instances", json={"name": "echo", "input": "fine", "instance_id": "after-all"})

    assert 201 == started.status_code
    assert "fine" == http.get("/v1/instances/after-all/result", params={"wait": 30}).json()["result"]
