"""The port of a client: one way to a hub. Everything here is on one asyncio loop."""

from typing import Protocol

from perdure.schemas.messages import Cancel, Purge, RaiseEvent, Resume, Suspend, Terminate

from .requests import ListRequest, Started, StartRequest
from .views import View

Change = RaiseEvent | Cancel | Terminate | Suspend | Resume | Purge


class Ticket(Protocol):
    """What a transport keeps of a start so that the end of its instance is heard of without asking. Let go, it is forgotten."""


class Transport(Protocol):
    """Each method asks until it is answered or `seconds` are over, and then raises NoAnswer; a refusal raises RequestRefused."""

    async def open(self, seconds: float) -> None:
        """Find the hub, or see that it is still there. Raises HubError. Every other method finds it first, if nobody did."""

    async def start(self, request: StartRequest, seconds: float) -> tuple[Started, Ticket | None]:
        """Start an instance. Raises StartUnknown where there is no answer."""
        ...

    async def change(self, instance_id: str, change: Change, request_id: str, seconds: float) -> None:
        """Ask one thing of an instance."""

    async def get(self, instance_id: str, seconds: float) -> View:
        """The instance."""
        ...

    async def wait(self, instance_id: str, seconds: float | None, ticket: Ticket | None) -> View | None:
        """The instance when it has ended; None if `seconds` are over before. `ticket` is that of its start, if there is one."""
        ...

    async def list(self, request: ListRequest, seconds: float) -> View:
        """One page, as `Page.as_json` shows it."""
        ...

    async def history(self, instance_id: str, seconds: float) -> View:
        """All turns, as `History.as_json` shows them."""
        ...

    async def close(self) -> None: ...
