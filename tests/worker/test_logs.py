"""Log lines say where the engine is, as JSON where nobody watches."""

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog

from perdure.config import Settings
from perdure.logs import configure_logs, start_logs
from perdure.partitions.place import PLACE


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    hooks = threading.excepthook, sys.unraisablehook
    PLACE.engine, PLACE.hub = threading.get_ident(), "shop"
    yield io.StringIO()
    PLACE.leave()
    PLACE.hub = ""
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)
    threading.excepthook, sys.unraisablehook = hooks


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_of_the_engine_says_hub_partition_instance_and_turn(stream: io.StringIO) -> None:
    configure_logs(stream=stream)
    PLACE.enter(3)
    PLACE.instance, PLACE.turn = "order-1", 77
    structlog.get_logger().info("turn.slow", seconds=2)
    (line,) = lines(stream)

    assert {"hub": "shop", "partition": 3, "instance": "order-1", "turn": 77, "seconds": 2} == {
        name: line[name] for name in ("hub", "partition", "instance", "turn", "seconds")
    }
    assert ("turn.slow", "info") == (line["event"], line["level"])


def test_a_line_says_the_hub_also_before_it_is_found(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    PLACE.hub = ""
    start_logs(Settings(hub="orders", log_format="json"))
    structlog.get_logger().warning("worker.waiting")
    logging.getLogger("perdure.kafka").error("connection refused")
    threading.Thread(target=lambda: structlog.get_logger().info("elsewhere")).run()
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    assert ["orders"] * 3 == [line["hub"] for line in said]


class Wicked:
    def __del__(self) -> None:
        raise ValueError("told by nobody")


class Collecting(io.StringIO):
    """What is written to while the collector ends something."""

    collected = False

    def write(self, text: str) -> int:
        if not self.collected:
            self.collected = True
            Wicked()
        return super().write(text)


def test_a_finalizer_that_fails_while_a_line_is_written_stops_nobody(stream: io.StringIO) -> None:
    start_logs(Settings())
    collecting = Collecting()
    configure_logs(stream=collecting)
    writing = threading.Thread(target=lambda: structlog.get_logger().warning("worker.waiting"), daemon=True)
    writing.start()
    writing.join(60)

    assert not writing.is_alive()
    assert ["unraisable", "worker.waiting"] == [line["event"] for line in lines(collecting)]


def test_what_the_standard_library_logs_has_the_same_form(stream: io.StringIO) -> None:
    configure_logs(stream=stream)
    PLACE.enter(3)
    logging.getLogger("somebody").warning("careful %s", "there", extra={"order": 5})
    (line,) = lines(stream)

    assert ("careful there", "warning", 3, "shop", 5) == (
        line["event"], line["level"], line["partition"], line["hub"], line["order"],
    )  # fmt: skip


def test_a_line_of_another_thread_says_the_hub_alone(stream: io.StringIO) -> None:
    configure_logs(stream=stream)
    PLACE.enter(3)
    thread = threading.Thread(target=lambda: structlog.get_logger().info("elsewhere"))
    thread.start()
    thread.join()
    (line,) = lines(stream)

    assert ("shop", False) == (line["hub"], "partition" in line)


def test_an_error_is_told_with_its_traceback(stream: io.StringIO) -> None:
    configure_logs(stream=stream)
    structlog.get_logger().error("partition.crashed", partition=9, exc_info=ValueError("why"))
    logging.getLogger("somebody").error("failed", exc_info=ValueError("why not"))
    first, second = lines(stream)

    assert (9, "ValueError", "why") == (first["partition"], *_raised(first))
    assert ("ValueError", "why not") == _raised(second)


def _raised(line: dict[str, object]) -> tuple[str, str]:
    (raised, *_) = line["exception"]  # type: ignore[misc]
    return raised["exc_type"], raised["exc_value"]


def test_people_get_text_and_the_level_is_kept(stream: io.StringIO) -> None:
    configure_logs("warning", json=False, stream=stream)
    structlog.get_logger().info("not shown")
    structlog.get_logger().warning("shown", answer=42)

    assert "not shown" not in stream.getvalue()
    assert "shown" in stream.getvalue()
    assert "answer=42" in stream.getvalue()
