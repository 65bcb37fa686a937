"""LoopWatch: a thread that wakes the engine when its asyncio loop has something to read while the engine waits on the log."""

import os
import selectors
import threading
from collections.abc import Callable


class LoopWatch:
    """Watches a loop's selector from outside, as one file descriptor; the thread begins with the first `arm`."""

    def __init__(self, selector: selectors.BaseSelector, wake: Callable[[], None]) -> None:
        self._watched = selector
        self._wake = wake
        self._armed = threading.Event()
        self._closed = False
        self._read_end, self._write_end = os.pipe()
        self._thread: threading.Thread | None = None

    def arm(self) -> None:
        """Wake the engine once, as soon as the loop has something to read."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="perdure-loop-watch", daemon=True)
            self._thread.start()
        self._armed.set()

    def close(self) -> None:
        self._closed = True
        self._armed.set()
        os.write(self._write_end, b"x")
        if self._thread is not None:
            self._thread.join()
        os.close(self._read_end)
        os.close(self._write_end)

    def _run(self) -> None:
        # epoll and kqueue can be watched like files; so nothing of the loop itself is touched from this thread.
        with selectors.DefaultSelector() as selector:
            selector.register(self._watched, selectors.EVENT_READ)  # type: ignore[arg-type]
            selector.register(self._read_end, selectors.EVENT_READ)
            while True:
                self._armed.wait()
                selector.select()
                self._armed.clear()  # before looking: `close` may come just here, and waits for this thread
                if self._closed:
                    return
                self._wake()
