"""A hub of one test: the real engine on a log and stores in memory, and time that passes when nothing else is left to do."""

from itertools import count
from random import Random

from perdure.actors.app import App
from perdure.actors.coroutine import CoroutineExecutor
from perdure.errors import NoAnswer
from perdure.partitions.holdings import OwnerParts, OwnerSettings
from perdure.partitions.instances import unwatched
from perdure.partitions.keys import TIMER, end_of, parse_timer_key
from perdure.partitions.memory import MemoryHub, MemoryLog, MemoryStores
from perdure.partitions.owner import PartitionOwner
from perdure.partitions.partitioner import partition_of
from perdure.schemas.codec import decode_reply, encode_inbound
from perdure.schemas.events import ExecutionStarted
from perdure.schemas.messages import Body, Inbound, Reply, ReplyCode, ReplyTo

from .clock import VirtualClock
from .fakes import Fake
from .pool import InlinePool

# The owner of a partition sends to itself and to others over the log, so one thing may take a few rounds to show the next.
_QUIET_ROUNDS = 4
_ROUNDS_MAX = 1_000_000


class StrictCode:
    """An app's code (`partitions.holdings.Code`) that is held for any difference to its history, also in the input of a call."""

    def __init__(self, app: App) -> None:
        self._app = app

    def executor(self, instance_id: str, started: ExecutionStarted) -> CoroutineExecutor:
        return self._app.executor(instance_id, started, strict=True)


class TestHub:
    """Owners of all partitions and one client, driven by the test's own thread."""

    __test__ = False

    def __init__(self, app: App, clock: VirtualClock, partitions: int, *, replay_always: bool) -> None:
        self.clock = clock
        self.fakes: dict[str, Fake] = {}
        self.partitions = partitions
        self._log = MemoryLog(MemoryHub(partitions, clock, hub="test"))
        self._pool = InlinePool(app, clock, self.fakes)
        parts = OwnerParts(self._log, MemoryStores(), self._pool, StrictCode(app), clock, Random(1), unwatched)  # noqa: S311
        settings = OwnerSettings("test", limits=app.limits, replay_always=replay_always)
        self._owners = [PartitionOwner(partition, parts, settings) for partition in range(partitions)]
        self._replies = self._log.open_replies("test")
        self._numbers = count(1)
        self._answers: dict[str, list[Reply]] = {}
        self.settle()

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        quiet = 0
        for _ in range(_ROUNDS_MAX):
            quiet = 0 if self._round() else quiet + 1
            if quiet == _QUIET_ROUNDS:
                return
        raise RuntimeError(f"after {_ROUNDS_MAX} rounds there is still something to do, and no time has passed")

    def _round(self) -> bool:
        self._log.wait(0)
        worked = False
        for partition, record in self._log.inbox.take(1000):
            self._owners[partition].receive([record])
            worked = True
        for owner in self._owners:
            worked |= bool(owner.step())
        worked |= self._pool.step()
        for record in self._replies.take(0):
            reply = decode_reply(record.value or b"")
            self._answers.setdefault(reply.request_id, []).append(reply)
        return worked

    def next_due_ms(self) -> int | None:
        """When the next timer fires or faked activity ends."""
        due = [self._pool.next_done_ms(), *map(self._next_timer_ms, self._owners)]
        return min((each for each in due if each is not None), default=None)

    def _next_timer_ms(self, owner: PartitionOwner) -> int | None:
        """By the store: an owner itself knows of those timers only that are due within a minute."""
        if owner.holdings is None:
            wait_ms = owner.next_due_ms()
            return None if wait_ms is None else self.clock.wall_ms() + max(1, wait_ms)
        first = next(iter(owner.holdings.store.scan(TIMER, end_of(TIMER))), None)
        return None if first is None else max(parse_timer_key(first[0]).due_ms, self.clock.wall_ms() + 1)

    def pass_until(self, time_ms: int) -> None:
        """Let time go on to what is due until then, one thing after the other, and to `time_ms`."""
        while (due_ms := self.next_due_ms()) is not None and due_ms <= time_ms:
            self.clock.pass_until(due_ms)
            self.settle()
        self.clock.pass_until(time_ms)
        self.settle()

    def publish(self, instance_id: str, body: Body, partition: int | None = None) -> str:
        """Send a request, to the partition of its instance unless it is for a certain one; return its id."""
        request_id = f"request-{next(self._numbers)}"
        reply_to = ReplyTo("test", self._replies.partition)
        to = partition_of(instance_id, self.partitions) if partition is None else partition
        value = encode_inbound(Inbound(instance_id, body, request_id, reply_to=reply_to))
        self._log.publisher.publish_inbox(to, instance_id, value)
        return request_id

    def ask(self, instance_id: str, body: Body, partition: int | None = None) -> Reply:
        """Send a request and return its answer."""
        request_id = self.publish(instance_id, body, partition)
        self.settle()
        answers = self._answers.pop(request_id, None)
        if not answers:
            raise NoAnswer(f"the hub did not answer {type(body).__name__} for {instance_id!r}")
        return answers[0]

    def ended(self, request_id: str) -> Reply | None:
        """The answer to a wait, if the instance has ended."""
        answers = self._answers.get(request_id, ())
        return next((reply for reply in answers if reply.code != ReplyCode.OK), None)

    def close(self) -> None:
        for owner in self._owners:
            owner.close()
        self._replies.close()
        self._log.close()
        self._pool.close(0)
