"""The last line of every test run: how many of the tests that need a real Kafka ran, and why the others did not.

Under `pytest -n 2` who started the two counts by their reports, each of which says what it is of: they come while the run goes on,
so that the line is true of a run that is cut, too.
"""

import os
from collections.abc import Generator

import pytest

REASON_CHARACTERS_MAX = 300
NO_BROKER = "no broker: "  # tests/wanting.py


class RealKafkaCount:
    """Counts tests marked `kafka`. With PERDURE_REQUIRE_KAFKA=1 (CI) one that did not run fails the whole run, unless what it missed is
    something else than a broker: kcat, say, or root's rights."""

    def __init__(self) -> None:
        self._chosen: int | None = None  # None: not known yet
        self._ran: set[str] = set()
        self._excused: set[str] = set()
        self._reasons: dict[str, None] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.items or not session.config.getoption("numprocesses", None):
            self._chosen = sum(1 for item in session.items if item.get_closest_marker("kafka"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        # What a report has is sent along with it.
        wants = item.get_closest_marker("kafka") is not None
        report.__dict__.update(wants_kafka=wants, kafka_chosen=self._chosen)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # That of a process that died is pytest-xdist's own, and says none of this.
        self._chosen = getattr(report, "kafka_chosen", self._chosen)
        if not getattr(report, "wants_kafka", False):
            return
        if report.when == "call" and not report.skipped:
            self._ran.add(report.nodeid)
        elif report.skipped and isinstance(report.longrepr, tuple):
            reason = " ".join(report.longrepr[2].removeprefix("Skipped: ").split())
            self._reasons[reason[:REASON_CHARACTERS_MAX]] = None
            if not reason.startswith(NO_BROKER):
                self._excused.add(report.nodeid)
        elif report.failed:
            self._reasons["set-up failed"] = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        if hasattr(session.config, "workeroutput"):
            yield
            return
        required = os.environ.get("PERDURE_REQUIRE_KAFKA") == "1"
        missing = (self._chosen or 0) - len(self._ran) - len(self._excused)
        if required and missing and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        cut = session.exitstatus == pytest.ExitCode.INTERRUPTED
        yield
        if not session.config.option.collectonly:
            writer = session.config.get_terminal_writer()
            chosen = "?" if self._chosen is None and cut else self._chosen or 0
            writer.line(f"real Kafka: {len(self._ran)} of {chosen} run ({self._reason(cut=cut)})")

    def _reason(self, *, cut: bool) -> str:
        if len(self._ran) == self._chosen and self._chosen:
            return "a broker was there"
        if cut:
            return "; ".join([*self._reasons, "the run was interrupted"])
        if not self._chosen:
            return "none of them chosen"
        return "; ".join(self._reasons) or "the run ended early"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RealKafkaCount(), "real-kafka-count")
