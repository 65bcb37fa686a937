"""From settings to a way into the hub: over HTTP, over Kafka, or to a `perdure dev` that runs near here."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .client.transport import Transport
from .config import KafkaValue, Loaded, Settings
from .errors import ConfigError

if TYPE_CHECKING:
    from perdure.partitions.kafka import KafkaSettings

DEV_FILE = "dev.json"


@dataclass(frozen=True, slots=True)
class RunningDev:
    """A `perdure dev`, as its state file tells."""

    url: str
    pid: int
    directory: str

    def save(self) -> None:
        """Write the state file whole or not at all."""
        file = Path(self.directory) / DEV_FILE
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)), encoding="utf-8")
        draft.replace(file)

    def forget(self) -> None:
        (Path(self.directory) / DEV_FILE).unlink(missing_ok=True)


def find_dev(directory: Path) -> RunningDev | None:
    """The dev that serves this state directory, if it is running."""
    try:
        found = RunningDev(**json.loads((directory / DEV_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if _is_running(found.pid) else None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # it runs, and is somebody else's
        return True
    except OSError:
        return False
    return True


def connect_transport(loaded: Loaded) -> Transport:
    """The way in that the settings name: what a flag or variable says, then a running dev, then perdure.toml. Raises ConfigError."""
    settings = loaded.settings
    dev = find_dev(settings.dir)
    meant = loaded.named_now("url") or loaded.named_now("brokers")
    if dev is not None and not meant:
        return http_transport(dev.url, "")
    # Brokers that were meant now win over a url that stands in the file.
    if settings.url and (loaded.named_now("url") or not loaded.named_now("brokers")):
        return http_transport(settings.url, settings.token)
    if settings.brokers:
        return kafka_transport(settings.hub, settings.brokers, settings.kafka)
    raise ConfigError(
        f"there is no hub to ask: `perdure dev` does not run in {settings.dir}, and neither --url nor --brokers is set"
    )


def http_transport(url: str, token: str) -> Transport:
    from .client.http_transport import HttpTransport

    return HttpTransport(url, token)


def kafka_transport(hub: str, brokers: str, properties: Mapping[str, KafkaValue]) -> Transport:
    """The way in through Kafka alone. Raises HubRefused where a property cannot be set."""
    from perdure.partitions.kafka import KafkaLog

    from .client.log_transport import LogTransport

    settings = kafka_settings(hub, brokers, properties)
    return LogTransport(lambda: KafkaLog.open_client(settings))


def kafka_settings(hub: str, brokers: str, properties: Mapping[str, KafkaValue]) -> "KafkaSettings":
    """What Kafka's clients are made with. Raises HubRefused."""
    from perdure.partitions.kafka import KafkaSettings as Made

    from .client.hubs import open_errors

    with open_errors():
        return Made(brokers, hub, properties)


def kafka_settings_of(settings: Settings) -> "KafkaSettings":
    """As the configuration says. Raises ConfigError where no brokers are named."""
    if not settings.brokers:
        raise ConfigError("no brokers are named: set PERDURE_BROKERS, --brokers, or `brokers` in perdure.toml")
    return kafka_settings(settings.hub, settings.brokers, settings.kafka)
