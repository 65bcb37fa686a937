"""`perdure serve`: the API of a hub on Kafka, from start to exit."""

from collections.abc import Callable

from .client import AsyncClient
from .config import Settings
from .connection import kafka_settings_of, kafka_transport
from .logs import start_logs
from .processes import stop_on_signals
from .serve import ApiServer, check_address, create_api
from .serve.server import bind


def run_serve(settings: Settings, ready: Callable[[str], None], *, port_is_free: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. `ready` is called with the address; whether the brokers answer is what
    /readyz tells. Raises ConfigError, HubRefused."""
    start_logs(settings)
    check_address(settings.host, settings.token)
    kafka_settings_of(settings)
    transport = kafka_transport(settings.hub, settings.brokers, settings.kafka, settings.request_timeout)
    client = AsyncClient(transport, timeout=settings.request_timeout)
    listener = bind(settings.host, settings.port, or_any=port_is_free)
    server = ApiServer(create_api(client, settings.token), listener)
    stop_on_signals(server.stop)
    ready(server.url)
    server.run()
    return 0
