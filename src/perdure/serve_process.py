"""`perdure serve`: the API of a hub on Kafka, from start to exit."""

import asyncio
from collections.abc import Callable

import structlog

from .client import AsyncClient
from .client.transport import Transport
from .config import Settings
from .connection import kafka_settings_of, kafka_transport
from .errors import PerdureError
from .logs import start_logs
from .processes import stop_on_signals
from .serve import ApiParts, ApiServer, check_address, create_api
from .serve.server import bind

LOOK_PAUSE_SECONDS = 1.0
LOOK_PAUSE_SECONDS_MAX = 10.0
_log = structlog.get_logger("perdure.serve")


def run_serve(settings: Settings, ready: Callable[[str], None], *, port_is_free: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. `ready` is called with the address; whether the brokers answer is what
    /readyz tells, and the log. Raises ConfigError, HubRefused."""
    start_logs(settings)
    check_address(settings.host, settings.token)
    kafka_settings_of(settings)
    transport = kafka_transport(settings.hub, settings.brokers, settings.kafka, settings.request_timeout)
    client = AsyncClient(transport, timeout=settings.request_timeout)
    listener = bind(settings.host, settings.port, or_any=port_is_free)
    parts = ApiParts(beside=lambda: look_for_hub(transport, settings.request_timeout))
    server = ApiServer(create_api(client, settings.token, parts), listener)
    stop_on_signals(server.stop)
    ready(server.url)
    server.run()
    return 0


async def look_for_hub(transport: Transport, seconds: float) -> None:
    """Look until the hub is found, and say so; each new reason why it is not is said too, since who started the process may not ask it
    anything for long."""
    pause, said = LOOK_PAUSE_SECONDS, set[str]()
    while True:
        try:
            await transport.open(seconds)
        except PerdureError as error:
            if str(error) not in said:
                said.add(str(error))
                _log.error(error.code.replace("-", "."), reason=str(error))
        else:
            _log.info("hub.found")
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, LOOK_PAUSE_SECONDS_MAX)
