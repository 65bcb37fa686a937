"""The engine is woken for its loop, and whoever closes the watch waits for nothing that never comes."""

import selectors
import socket
import threading
from collections.abc import Callable

from perdure.partitions.loop_watch import LoopWatch

PLENTY_SECONDS = 10.0


class Flag(threading.Event):
    """An event that lets somebody act just before it is taken down."""

    def __init__(self, before_clear: Callable[[], None]) -> None:
        super().__init__()
        self._before_clear = before_clear

    def clear(self) -> None:
        self._before_clear()
        super().clear()


def test_a_close_that_comes_while_the_loop_has_something_to_read_ends_the_thread() -> None:
    here, there = socket.socketpair()
    with here, there, selectors.DefaultSelector() as watched:
        watched.register(here, selectors.EVENT_READ)
        watch = LoopWatch(watched, lambda: None)
        closer = threading.Thread(target=watch.close, daemon=True)

        def close() -> None:
            """Until it waits for the thread that runs this."""
            if closer.ident is None:
                closer.start()
                closer.join(0.3)

        watch._armed = Flag(close)
        watch.arm()
        there.send(b"x")
        assert watch._thread is not None
        watch._thread.join(PLENTY_SECONDS)
        closer.join(PLENTY_SECONDS)

        assert not closer.is_alive()
