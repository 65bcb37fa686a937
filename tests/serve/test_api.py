"""The HTTP API as a program of another language meets it: plain requests, problems, and who may come in."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from perdure.client import AsyncClient
from perdure.errors import ConfigError
from perdure.serve import ApiServer, check_address, create_api
from perdure.serve import server as server_module
from perdure.serve.models import HistoryModel, InstanceModel, PageModel, ProblemModel, StartedModel, TurnModel
from perdure.serve.server import bind
from tests.client.hub import RunningHub
from tests.e2e.workers import until
from tests.serve.described import described


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    hub = RunningHub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.close()


def serve(hub: RunningHub, token: str) -> ApiServer:
    server = ApiServer(create_api(AsyncClient.over(hub.log.share()), token), bind("127.0.0.1", 0))
    server.start()
    return server


@pytest.fixture(scope="module")
def http(hub: RunningHub) -> Iterator[httpx.Client]:
    server = serve(hub, "")
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield described(client)
    server.close()


def test_who_waits_while_the_api_stops_is_told_to_ask_again(
    hub: RunningHub, http: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start(http, name="listen", instance_id="outlives-the-api")
    monkeypatch.setattr(server_module, "STOP_SECONDS", 0.2)
    monkeypatch.setattr(server_module, "_ANSWER_SECONDS", 20)
    server = serve(hub, "")
    with httpx.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(1) as waiting:
        answer = waiting.submit(client.get, "/v1/instances/outlives-the-api/result", params={"wait": 50})
        until(lambda: bool(server._server.server_state.tasks))
        server.close()
        told = answer.result()

    assert (503, "urn:perdure:problem:no-answer") == (told.status_code, told.json()["type"])
    assert "Retry-After" in told.headers
    assert [] == [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def start(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post("/v1/instances", json=body)


def test_start_wait_and_read(http: httpx.Client) -> None:
    started = start(http, name="welcome", input="Ada", instance_id="order/7")
    assert (201, "/v1/instances/order%2F7", True) == (
        started.status_code,
        started.headers["Location"],
        started.json()["created"],
    )
    ended = http.get(f"{started.headers['Location']}/result", params={"wait": 20})
    assert (200, "COMPLETED", "hello Ada") == (ended.status_code, ended.json()["status"], ended.json()["result"])
    assert 4 == sum(len(turn["events"]) for turn in http.get("/v1/instances/order%2F7/history").json()["turns"])
    assert ["order/7"] == [each["instance_id"] for each in http.get("/v1/instances?prefix=order/").json()["instances"]]


def test_a_wait_that_is_over_answers_202(http: httpx.Client) -> None:
    start(http, name="listen", instance_id="waits")
    assert 202 == http.get("/v1/instances/waits/result", params={"wait": 0.2}).status_code
    assert 204 == http.post("/v1/instances/waits/events/go", json={"n": 1}).status_code
    assert {"n": 1} == http.get("/v1/instances/waits/result", params={"wait": 20}).json()["result"]


def test_a_request_that_is_repeated_with_its_key_is_done_once(http: httpx.Client) -> None:
    key = {"Idempotency-Key": "one"}
    first = http.post("/v1/instances", json={"name": "echo", "input": 1}, headers=key)
    again = http.post("/v1/instances", json={"name": "echo", "input": 1}, headers=key)

    assert first.json() == again.json()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("GET", "/v1/instances/nobody", None, 404, "instance-not-found"),
        ("POST", "/v1/instances/nobody/cancel", None, 404, "instance-not-found"),
        ("POST", "/v1/instances", {"name": ""}, 422, "invalid-request"),
        ("POST", "/v1/instances", {"nam": "echo"}, 422, "invalid-request"),
        ("POST", "/v1/instances", {"name": "echo", "input": "x" * 3_000_000}, 413, "payload-too-large"),
        ("POST", "/v1/instances", {"name": "echo", "input": "x" * 30_000_000}, 413, "payload-too-large"),
        ("GET", "/v1/instances?limit=0", None, 422, "invalid-request"),
        ("GET", "/v1/instances?tag=a=1&tag=a=2", None, 422, "invalid-request"),
        ("GET", "/v1/instances?status=lost", None, 422, "invalid-request"),
        ("GET", "/v1/nowhere", None, 404, "not-found"),
        ("PATCH", "/v1/instances", None, 405, "method-not-allowed"),
    ],
)
def test_what_is_wrong_is_a_problem_that_says_what(
    http: httpx.Client, method: str, path: str, body: Any, status: int, kind: str
) -> None:
    answer = http.request(method, path, json=body)

    assert "application/problem+json" == answer.headers["Content-Type"]
    problem = answer.json()
    assert (status, kind) == (answer.status_code, problem["type"].rpartition(":")[2])
    assert problem["detail"]


def test_a_taken_id_is_a_conflict_and_a_finished_one_too(http: httpx.Client) -> None:
    start(http, name="echo", input=1, instance_id="taken")
    http.get("/v1/instances/taken/result", params={"wait": 20})
    assert 409 == start(http, name="echo", instance_id="taken").status_code
    assert 409 == http.post("/v1/instances/taken/cancel").status_code


def test_the_description_names_every_route_and_its_problems(http: httpx.Client) -> None:
    description = http.get("/openapi.json").json()

    assert description["openapi"].startswith("3.")
    paths = description["paths"]
    assert {"get", "post"} == set(paths["/v1/instances"])
    for tail in ("", "/result", "/history", "/events/{event}", "/cancel", "/terminate", "/suspend", "/resume"):
        operations = paths["/v1/instances/{instance_id}" + tail]
        for operation in operations.values():
            assert operation["summary"]
            assert "404" in operation["responses"]
    operations = [each for path in paths.values() for each in path.values()]
    assert len(operations) == len({each["operationId"] for each in operations})
    assert all(each["description"] for operation in operations for each in operation.get("parameters", ()))
    assert "security" not in description
    page = http.get("/docs").text
    for said in ("Authorization: Bearer TOKEN", "ProblemModel", "RUNNING", "replace_statuses"):
        assert said in page
    assert "one of reject, return, replace" in page
    assert "<code>next</code> (string or null, required)" in page
    assert "<code>status</code> (one of PENDING, " in page
    assert "<ul></ul>" not in page
    assert page == http.get("/", follow_redirects=True).text


def test_answers_are_as_they_are_described(http: httpx.Client) -> None:
    started = start(http, name="welcome", input="Ada", instance_id="described").json()
    http.get("/v1/instances/described/result", params={"wait": 20})
    page = http.get("/v1/instances", params={"prefix": "described"}).json()
    history = http.get("/v1/instances/described/history").json()
    problem = http.get("/v1/instances/nobody").json()

    for model, answer in (
        (StartedModel, started),
        (PageModel, page),
        (InstanceModel, page["instances"][0]),
        (HistoryModel, history),
        (TurnModel, history["turns"][0]),
    ):
        model.model_validate(answer)
        assert set(model.model_fields) == set(answer), model
    ProblemModel.model_validate(problem)
    assert set(problem) <= set(ProblemModel.model_fields)


def test_the_process_tells_of_itself(http: httpx.Client) -> None:
    assert [200, 200] == [http.get(path).status_code for path in ("/healthz", "/readyz")]
    assert "perdure_http_requests_total" in http.get("/metrics").text


def test_with_a_token_every_request_needs_it(hub: RunningHub) -> None:
    server = serve(hub, "secret")
    try:
        assert 401 == httpx.get(f"{server.url}/v1/instances").status_code
        wrong = httpx.get(f"{server.url}/v1/instances", headers={"Authorization": "Bearer wrong"})
        assert (401, "unauthorized") == (wrong.status_code, wrong.json()["type"].rpartition(":")[2])
        right = httpx.get(f"{server.url}/v1/instances", headers={"Authorization": "Bearer secret"})
        assert 200 == right.status_code
        description = httpx.get(f"{server.url}/openapi.json", headers={"Authorization": "Bearer secret"}).json()
        assert ["token"] == [*description["components"]["securitySchemes"]]
        assert [{"token": []}] == description["security"]
        open_to_all = {path for path, each in description["paths"].items() if each.get("get", {}).get("security") == []}
        assert {"/healthz", "/readyz"} == open_to_all
        for path in open_to_all:
            assert 200 == httpx.get(f"{server.url}{path}").status_code
        assert 200 == httpx.get(f"{server.url}/healthz").status_code
    finally:
        server.close()


def test_without_a_token_a_web_page_cannot_reach_it(http: httpx.Client) -> None:
    assert 403 == http.get("/v1/instances", headers={"Origin": "https://evil.example"}).status_code
    assert 403 == http.get("/v1/instances", headers={"Host": "evil.example"}).status_code


def test_beyond_loopback_it_wants_a_token() -> None:
    check_address("127.0.0.1", "")
    check_address("::1", "")
    check_address("0.0.0.0", "secret")
    with pytest.raises(ConfigError, match="PERDURE_TOKEN"):
        check_address("0.0.0.0", "")


def test_a_port_that_is_taken_is_said_or_left_alone(tmp_path: Path) -> None:
    first = bind("127.0.0.1", 0)
    port = first.getsockname()[1]
    with pytest.raises(ConfigError, match="choose another --port"):
        bind("127.0.0.1", port)
    other = bind("127.0.0.1", port, or_any=True)
    assert port != other.getsockname()[1]
    first.close()
    other.close()


def test_an_integer_beyond_64_bits_is_read_exactly_or_the_instance_says_why_not(http: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    for name, status, said in (("big", "COMPLETED", str(2**70 + 1)), ("echo", "FAILED", "64 bits")):
        body = b'{"name": "%s", "instance_id": "n-%s", "input": %d}' % (name.encode(), name.encode(), 2**70)
        http.post("/v1/instances", content=body, headers=headers)
        ended = http.get(f"/v1/instances/n-{name}/result", params={"wait": 20})
        assert status == ended.json()["status"]
        assert said in ended.text
