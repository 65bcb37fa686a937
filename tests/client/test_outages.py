"""A hub that cannot be reached, at first or in the middle: a client says so in time, loses nothing, and goes on by itself."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from perdure import connection
from perdure.client import AsyncClient, Client
from perdure.client.log_transport import LogTransport
from perdure.errors import HubMissing, HubUnavailable, InvalidRequest, NoAnswer, StartUnknown, Unauthorized, WaitTimeout
from perdure.partitions.kafka import KafkaLog, KafkaSettings, create_hub
from perdure.partitions.ports import LogUnavailable
from perdure.schemas.events import Status
from perdure.serve import ApiServer, create_api, server
from perdure.serve.server import bind
from tests.broker import Broker
from tests.client.hub import echo, listen
from tests.client.ways import OverHttp, OverKafka
from tests.e2e.workers import until


def impatient(port: int) -> AsyncClient:
    """A client that gives the brokers one second instead of ten."""
    settings = KafkaSettings(f"127.0.0.1:{port}", "hub", request_seconds_max=1.0)
    return AsyncClient(LogTransport(lambda: KafkaLog.open_client(settings)))


@pytest.mark.kafka
def test_a_broker_that_goes_and_comes_back(mortal_broker: Broker, tmp_path: Path) -> None:
    """What was acknowledged is there, what was not is safe to repeat, and who waits hears of the end."""
    way = OverKafka(tmp_path, mortal_broker.servers)
    api = ApiServer(create_api(way.connect_async()), bind("127.0.0.1", 0))
    api.start()

    def is_ready() -> bool:
        answer = httpx.get(f"{api.url}/readyz", timeout=60)
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200

    with way.connect(timeout=60.0) as client, way.connect() as hasty, ThreadPoolExecutor(1) as waiting:
        before = client.start(listen, instance_id="before")
        hasty.start(echo, 1).result(30)
        hasty._inner.timeout = 1.5
        result = waiting.submit(before.result, 120)
        until(is_ready)
        mortal_broker.kill()
        began = time.monotonic()
        with pytest.raises(StartUnknown) as caught:
            hasty.start(echo, "once", instance_id="once")
        with pytest.raises(NoAnswer):
            hasty.instance("before").get()
        assert time.monotonic() - began < 15
        until(lambda: not is_ready())
        mortal_broker.start()
        until(is_ready)

        again = client.start(echo, "once", instance_id="once", request_id=caught.value.request_id)
        assert "once" == again.result(60)
        before.raise_event("go", "still here")
        assert "still here" == result.result(120)
        assert ["once"] == [each.instance_id for each in client.list(prefix="once")]
        assert 1 == sum(
            event["type"] == "ExecutionStarted" for turn in again.history().turns for event in turn["events"]
        )
    api.close()
    way.close()


@pytest.mark.kafka
def test_an_api_whose_hub_is_deleted_is_not_ready_and_takes_up_the_next_one(kafka_servers: str) -> None:
    settings = KafkaSettings(kafka_servers, f"api-{uuid4().hex[:8]}")
    create_hub(settings, 1, 1)
    client = AsyncClient(LogTransport(lambda: KafkaLog.open_client(settings)))
    api = ApiServer(create_api(client), bind("127.0.0.1", 0))
    api.start()

    def code() -> str:
        answer = httpx.get(f"{api.url}/readyz", timeout=60)
        return "ready" if answer.status_code == 200 else answer.json()["type"].rpartition(":")[2]

    try:
        until(lambda: code() == "ready")
        admin = settings.admin()
        for future in admin.delete_topics([*settings.topics.all]).values():
            future.result(20)
        until(lambda: code() == "hub-missing")
        create_hub(settings, 3, 1)
        until(lambda: code() == "ready")
        silent = httpx.get(f"{api.url}/v1/instances", timeout=60)
    finally:
        api.close()
    assert "none of the 3 partitions answered" in silent.json()["detail"]


def test_a_client_says_why_it_finds_no_broker_within_its_own_time(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_PATIENCE", 0.05)  # leaves a slow machine the time to say it
    client = Client.kafka("hub", f"127.0.0.1:{closed_port}", timeout=40.0)
    try:
        with pytest.raises(HubUnavailable, match=r"no Kafka broker answered .* within 2 s .*refused"):
            client.start(echo, 1)
    finally:
        client.close()


def test_a_broker_whose_name_leads_nowhere_is_told_with_what_the_resolver_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_PATIENCE", 0.1)  # as above
    client = Client.kafka("hub", "no-such-host.invalid:9092", timeout=40.0)
    try:
        with pytest.raises(
            HubUnavailable, match=r"no Kafka broker answered .*Failed to resolve 'no-such-host\.invalid:9092'"
        ):
            client.start(echo, 1)
    finally:
        client.close()


@pytest.mark.parametrize(("timeout", "share"), [(2.0, 1.6), (0.5, 1.0), (60.0, 10.0)])
def test_of_a_clients_time_the_brokers_have_four_fifths_and_not_too_little_or_too_much(
    timeout: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def refuse(settings: KafkaSettings) -> KafkaLog:
        given.append(settings.request_seconds_max)
        raise LogUnavailable("nobody is there")

    monkeypatch.setattr(KafkaLog, "open_client", refuse)
    client = Client(lambda: AsyncClient(connection.kafka_transport("hub", "127.0.0.1:1", {}, timeout)))
    with pytest.raises(HubUnavailable, match="nobody is there"):
        client.list()
    client.close()

    assert [share] == given


def test_a_broker_that_is_not_there_is_named_in_time(closed_port: int) -> None:
    port = closed_port
    client = Client(lambda: impatient(port))
    try:
        with pytest.raises(HubUnavailable, match=f"no Kafka broker answered at 127.0.0.1:{port} within 1 s"):
            client.start(echo, 1)
    finally:
        client.close()


@pytest.mark.kafka
def test_a_hub_that_is_not_there_is_named_with_what_creates_it(kafka_servers: str) -> None:
    client = Client.kafka("nowhere", kafka_servers)
    try:
        with pytest.raises(HubMissing, match=r"hub 'nowhere' is not at .*`perdure hub create` creates it"):
            client.start(echo, 1)
    finally:
        client.close()


def test_an_api_that_is_not_there_is_named(closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    client = Client.http(url, timeout=2.0)
    try:
        for ask in (client.list, lambda: client.instance("i").get()):
            with pytest.raises(HubUnavailable, match=f"nothing answers at {url}.*is `perdure dev`"):
                ask()
        with pytest.raises(HubUnavailable):  # nothing was sent, so nothing is unknown
            client.start(echo, 1)
    finally:
        client.close()


@contextmanager
def front_of(url: str, *, swallow: int) -> Iterator[str]:
    """A proxy that passes requests on, but cuts the connection instead of giving the first answers back."""
    target = httpx.URL(url)
    listener = socket.create_server(("127.0.0.1", 0))
    left = [swallow]

    def serve(connection: socket.socket) -> None:
        asked = [b""]
        with connection, socket.create_connection((target.host, target.port or 0)) as behind:

            def ask() -> None:
                with suppress(OSError):
                    while piece := connection.recv(1 << 20):
                        if b" HTTP/1.1" in piece:
                            asked[0] = piece[:6]
                        behind.sendall(piece)
                    behind.shutdown(socket.SHUT_WR)

            threading.Thread(target=ask, daemon=True).start()
            with suppress(OSError):
                while piece := behind.recv(1 << 20):
                    if left[0] > 0 and asked[0].startswith((b"POST", b"DELETE")):
                        left[0] -= 1
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    connection.sendall(piece)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def test_a_connection_that_breaks_before_the_answer_repeats_nothing(tmp_path: Path) -> None:
    way = OverHttp(tmp_path)
    try:
        with front_of(way.server.url, swallow=2) as url, Client.http(url, "secret", timeout=30.0) as client:
            handle = client.start(listen, instance_id="once")
            assert handle.started is not None
            assert handle.started.created
        with front_of(way.server.url, swallow=1) as url, Client.http(url, "secret", timeout=30.0) as client:
            client.instance("once").raise_event("go", 1)
            assert 1 == client.instance("once").result(20)
        with front_of(way.server.url, swallow=1) as url, Client.http(url, "secret", timeout=30.0) as client:
            client.instance("once").purge()
        with way.connect() as client:
            assert 0 == len(client.list(prefix="once"))
    finally:
        way.close()


def test_a_start_whose_answer_never_comes_is_unknown_and_safe_to_repeat(tmp_path: Path) -> None:
    way = OverHttp(tmp_path)
    try:
        with (
            front_of(way.server.url, swallow=99) as url,
            Client.http(url, "secret", timeout=4.0) as client,
            pytest.raises(StartUnknown, match="start it again with the same") as caught,
        ):
            client.start(listen, instance_id="once")
        with way.connect() as client:
            again = client.start(listen, instance_id="once", request_id=caught.value.request_id)
            assert again.started is not None
            assert again.started.created
            assert Status.RUNNING == again.get().status
    finally:
        way.close()


def test_a_start_that_was_sent_before_its_api_went_away_is_unknown() -> None:
    """A refused connection says nothing of what an earlier one brought."""
    listener = socket.create_server(("127.0.0.1", 0))

    def take_one() -> None:
        connection, _ = listener.accept()
        listener.close()
        connection.recv(1 << 20)
        connection.close()

    threading.Thread(target=take_one, daemon=True).start()
    client = Client.http(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=4.0)
    try:
        with pytest.raises(StartUnknown, match="may have been started or not"):
            client.start(echo, 1)
    finally:
        client.close()


def test_a_wait_goes_on_over_a_restart_of_the_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STOP_SECONDS", 1)
    way = OverHttp(tmp_path)
    try:
        with way.connect() as client, ThreadPoolExecutor(1) as waiting:
            handle = client.start(listen)
            result = waiting.submit(handle.result, 60)
            port = httpx.URL(way.server.url).port or 0
            way.server.close()
            with pytest.raises(HubUnavailable):
                client.list()
            with pytest.raises(WaitTimeout, match="nobody answers for it now"):
                handle.wait(0.5)
            way.serve(port)
            handle.raise_event("go", "still here")
            assert "still here" == result.result(60)
    finally:
        way.close()


def test_a_token_that_is_missing_or_wrong_is_said_with_the_way_out(tmp_path: Path) -> None:
    way = OverHttp(tmp_path)
    try:
        for token in ("", "wrong"):
            with Client.http(way.server.url, token) as client, pytest.raises(Unauthorized, match="set PERDURE_TOKEN"):
                client.list()
    finally:
        way.close()


def test_an_api_without_its_brokers_lives_is_not_ready_and_keeps_nobody_waiting(closed_port: int) -> None:
    api = ApiServer(create_api(impatient(closed_port)), bind("127.0.0.1", 0))
    api.start()
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(6) as asking:
            ready = [asking.submit(httpx.get, f"{api.url}/readyz", timeout=60) for _ in range(3)]
            starts = [
                asking.submit(httpx.post, f"{api.url}/v1/instances", json={"name": "echo"}, timeout=60)
                for _ in range(3)
            ]
            assert 200 == httpx.get(f"{api.url}/healthz").status_code
            answers = [each.result() for each in (*ready, *starts)]
    finally:
        api.close()

    assert [503] * 6 == [answer.status_code for answer in answers]
    # /readyz needs no token, so it does not tell of the brokers; its log line does.
    assert all("no Kafka broker answered" in answer.json()["detail"] for answer in answers[3:])
    assert time.monotonic() - began < 30


def test_a_server_that_is_not_ours_is_said_to_be_none() -> None:
    with strangers() as url:
        client = Client.http(url, timeout=20.0)
        try:
            with pytest.raises(NoAnswer, match="answered 404, and not as Perdure's API does"):
                client.instance("i").get()
            for ask in (client.open, client.list):
                with pytest.raises(NoAnswer, match="answered 200, and not as Perdure's API does"):
                    ask()
            with pytest.raises(StartUnknown, match="not as Perdure's API does"):
                client.start(echo, 1)
        finally:
            client.close()


@contextmanager
def strangers() -> Iterator[str]:
    """A web server that knows nothing of us: pages for everything, a 404 for instances."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = not self.path.startswith("/v1/instances/")
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_what_is_refused_here_needs_no_hub(closed_port: int) -> None:
    client = Client.kafka("hub", f"127.0.0.1:{closed_port}")
    try:
        with pytest.raises(InvalidRequest):
            client.start(echo, 1, instance_id="")
        with pytest.raises(InvalidRequest):
            client.list(limit=0)
    finally:
        client.close()
