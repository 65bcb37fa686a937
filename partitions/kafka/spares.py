"""Producers of the history that are made before they are needed: an idempotent one cannot send before a broker has numbered it.

Rules of this file: they are made on a thread of their own, one after the other, since librdkafka asks for a number again only half a
second later where its first connection was not there yet; who waits for an answer of the brokers finds it there.
"""

from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

from confluent_kafka import Producer

SPARES_MAX = 8


class SpareProducers:
    """At most `count` of them, the oldest first. `make_ready` blocks until a producer can send, or is given up on; `let_go` ends one."""

    def __init__(
        self, make_ready: Callable[[], Producer], make: Callable[[], Producer], let_go: Callable[[Producer], None]
    ) -> None:
        self._make_ready, self._make, self._let_go = make_ready, make, let_go
        self._count = 0
        self._ready: deque[Producer] = deque()
        self._missing = Condition()

    def keep(self, count: int) -> None:
        """Make them, and one for each that is taken."""
        self._count = count
        if count:
            Thread(target=self._run, name="perdure-spare-producers", daemon=True).start()

    def take(self) -> Producer:
        with self._missing:
            self._missing.notify()
            return self._ready.popleft() if self._ready else self._make()

    def renew(self) -> None:
        """Have others made in the place of those that are there."""
        with self._missing:
            old, self._ready = self._ready, deque()
            self._missing.notify()
        for producer in old:
            self._let_go(producer)

    def close(self) -> None:
        """Let go of all of them. One that is just being made ends by itself."""
        with self._missing:
            self._count = 0
            self._missing.notify()
        while self._ready:
            self._let_go(self._ready.popleft())

    def _run(self) -> None:
        while True:
            with self._missing:
                self._missing.wait_for(lambda: len(self._ready) < self._count or not self._count)
                if not self._count:
                    return
            made = self._make_ready()
            with self._missing:
                if self._count:
                    self._ready.append(made)
                    continue
            self._let_go(made)
            return
