"""What happens to the connections between workers and their broker: all of them go through one proxy, those of clients do not."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.proxy import Proxy, Way

from .processes import Expected
from .stage import Fault, Stage

WAIT_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class _Trouble:
    """`count`: what the proxy counts when it struck something; `sessions`: for how many session time-outs it goes on then."""

    name: str
    count: str
    begin: Callable[[Proxy, Stage], None]
    sessions: float = 0.0

    async def __call__(self, stage: Stage) -> None:
        proxy = stage.proxy
        if proxy is None:
            return
        before = proxy.counts[self.count]
        await asyncio.to_thread(self.begin, proxy, stage)
        for _ in range(round(WAIT_SECONDS_MAX / 0.1)):
            if proxy.counts[self.count] > before:
                stage.count(self.name)
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(self.sessions * stage.session_seconds)
        proxy.delay(0)
        await asyncio.to_thread(proxy.release)


_TROUBLES = (
    _Trouble("network.delayed", "delayed", lambda proxy, stage: proxy.delay(stage.dice.uniform(0.05, 0.4)), 2),
    _Trouble("network.held-briefly", "held", lambda proxy, _: proxy.hold(), 0.4),
    _Trouble("network.held", "held", lambda proxy, _: proxy.hold(), 3),
    _Trouble("network.held-to-broker", "held", lambda proxy, _: proxy.hold(Way.UP), 3),
    _Trouble("network.held-to-worker", "held", lambda proxy, _: proxy.hold(Way.DOWN), 3),
    _Trouble("network.cut", "cut", lambda proxy, _: proxy.cut()),
    _Trouble("network.refused", "refused", lambda proxy, _: proxy.cut(refuse=True), 3),
    _Trouble("network.half-closed-to-broker", "half-closed", lambda proxy, _: proxy.half_close(Way.UP)),
    _Trouble("network.half-closed-to-worker", "half-closed", lambda proxy, _: proxy.half_close(Way.DOWN)),
)
OF_NETWORKS: Mapping[str, Fault] = {trouble.name: trouble for trouble in _TROUBLES}
_AWAY = {r"FAIL .*": "", r"partition\.checkpoint_late|hub\.unavailable": ""}
EXPECTED: Mapping[str, Expected] = dict.fromkeys(OF_NETWORKS, _AWAY)
"""What these make a process cry at error level: the client's own complaints, and that no checkpoint could be appended."""
