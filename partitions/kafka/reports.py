"""Delivery reports in the order of the sends, whatever order the client makes them in (R4)."""

from collections import deque

from confluent_kafka import KafkaError, Message

from ..ports import Delivered, Report


class Sent:
    """One record on its way; the client calls it with the outcome."""

    __slots__ = ("delivered", "report", "timed_out")

    def __init__(self, delivered: Delivered | None = None) -> None:
        self.delivered = delivered
        self.report: Report | None = None
        self.timed_out = False

    def fail(self, error: KafkaError) -> None:
        self.timed_out = error.code() == KafkaError._MSG_TIMED_OUT
        self.report = Report(None, f"{error.name()}: {error.str()}")

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.fail(error)
            return
        offset = message.offset()
        # A broker that knows a record already confirms it without saying where it stands.
        self.report = Report(None, "it landed, but not known where") if offset is None or offset < 0 else Report(offset)


class SentQueue:
    """The records of one sender on their way to one partition."""

    __slots__ = ("_sent",)

    def __init__(self) -> None:
        self._sent: deque[Sent] = deque()

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, sent: Sent) -> None:
        self._sent.append(sent)

    def drop_last(self) -> None:
        self._sent.pop()

    @property
    def has_reports(self) -> bool:
        return bool(self._sent) and self._sent[0].report is not None

    def take(self) -> list[tuple[Sent, Report]]:
        """The unbroken prefix of those whose outcome is known."""
        taken: list[tuple[Sent, Report]] = []
        sent = self._sent
        while sent and (report := sent[0].report) is not None:
            taken.append((sent.popleft(), report))
        return taken
