"""The last line of every test run: how many of the tests that need a real Kafka ran, and why the others did not.

Under `pytest -n 2` each of the two counts its own, and who started them adds up.
"""

import os
from collections.abc import Generator
from typing import Any

import pytest

REASON_CHARACTERS_MAX = 300
COUNTED = "real-kafka"


class RealKafkaCount:
    """Counts tests marked `kafka`. With PERDURE_REQUIRE_KAFKA=1 (CI) one that did not run fails the whole run."""

    def __init__(self) -> None:
        self._chosen: set[str] = set()
        self._ran: set[str] = set()
        self._reasons: dict[str, None] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._chosen = {item.nodeid for item in session.items if item.get_closest_marker("kafka")}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid not in self._chosen:
            return
        if report.when == "call" and not report.skipped:
            self._ran.add(report.nodeid)
        elif report.skipped and isinstance(report.longrepr, tuple):
            reason = " ".join(report.longrepr[2].removeprefix("Skipped: ").split())
            self._reasons[reason[:REASON_CHARACTERS_MAX]] = None
        elif report.failed:
            self._reasons["set-up failed"] = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[COUNTED] = [sorted(self._chosen), sorted(self._ran), list(self._reasons)]
            yield
            return
        required = os.environ.get("PERDURE_REQUIRE_KAFKA") == "1"
        if required and self._ran != self._chosen and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        yield
        if not session.config.option.collectonly:
            writer = session.config.get_terminal_writer()
            writer.line(f"real Kafka: {len(self._ran)} of {len(self._chosen)} run ({self._reason()})")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # One that died has no output; that its test failed is reported by pytest-xdist.
        chosen, ran, reasons = getattr(node, "workeroutput", {}).get(COUNTED, ([], [], []))
        self._chosen.update(chosen)
        self._ran.update(ran)
        self._reasons.update(dict.fromkeys(reasons))

    def _reason(self) -> str:
        if not self._chosen:
            return "none of them chosen"
        if self._ran == self._chosen:
            return "a broker was there"
        return "; ".join(self._reasons) or "the run ended early"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RealKafkaCount(), "real-kafka-count")
