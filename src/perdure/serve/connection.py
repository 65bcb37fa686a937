"""A connection to the API that does not wait for ever: uvicorn's, with a time for the head of a request and one for its body.

Rules of this file: the time runs from the first byte that may come to the last one that should, whatever comes in between; answering
takes as long as it takes.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS_MAX = 10.0
BODY_SECONDS_MAX = 60.0
# A quiet one between two requests.
IDLE_SECONDS_MAX = 5
CONNECTIONS_MAX = 1_000


class PatientConnection(H11Protocol):
    """One connection. `head_seconds` and `body_seconds` are what a request may take to come."""

    head_seconds = HEAD_SECONDS_MAX
    body_seconds = BODY_SECONDS_MAX

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._awaited: object = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """The time goes on while the same part of a request is awaited, and begins anew with the next part."""
        awaited = self.conn.their_state
        if awaited is self._awaited:
            return
        self._stop_timer()
        self._awaited = awaited
        if awaited is h11.IDLE:
            self._timer = self.loop.call_later(self.head_seconds, self._give_up)
        elif awaited is h11.SEND_BODY:
            self._timer = self.loop.call_later(self.body_seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self.transport.close()
