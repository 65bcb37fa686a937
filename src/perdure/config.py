"""Configuration: a flag over a `PERDURE_...` variable over `perdure.toml` over the default, and where each value came from.

`perdure.toml` is looked for in the working directory and above it. Its `[kafka]` table passes any librdkafka property but
those that the protocol fixes; so does a variable: `PERDURE_KAFKA_SASL_PASSWORD` is `sasl.password`.
"""

import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from perdure.partitions.topics import HubNameRefused, HubTopics

from .brokers import check_brokers
from .errors import ConfigError
from .masking import hide

FILE_NAME = "perdure.toml"
STATE_NAME = ".perdure"
_PREFIX = "PERDURE_"
_KAFKA_PREFIX = "PERDURE_KAFKA_"
# Read by our own commands and tests, not by the product.
_OTHER_VARIABLES = frozenset({"PERDURE_DEBUG", "PERDURE_REQUIRE_KAFKA"})
# How alike a variable and a setting are where one is a slip of the other; other programs may have variables of this prefix too.
_CLOSE = 0.8
_SECRET_WORDS = (
    "password",
    "passphrase",
    "secret",
    "token",
    "private",
    "ssl.key",
    "ssl.keystore",
    "sasl.jaas",
    "sasl.oauthbearer.config",
)
# Those of them that are no secret in themselves; to mask a path in every line would hide what an error is about.
_NO_SECRETS = frozenset({"ssl.key.location", "ssl.keystore.location", "sasl.oauthbearer.token.endpoint.url"})
_HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_EMPTY: Mapping[str, Any] = MappingProxyType({})

KafkaValue = str | int | float | bool


def setting(default: Any, text: str, *, shown: bool = True) -> Any:
    """A field of Settings and what `perdure config` says of it; `shown`: its value may stand in a message."""
    return field(default=default, metadata={"help": text}, repr=shown)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process works with. Empty `brokers` and `url`: no hub but the one of a `perdure dev` nearby."""

    hub: str = setting("perdure", "the hub's name: the prefix of its topics")
    brokers: str = setting("", "Kafka's bootstrap servers, as host:port,host:port")
    url: str = setting("", "where `perdure serve` or `perdure dev` answers; used instead of Kafka")
    token: str = setting("", "the HTTP API's token, for those who serve it and those who use it", shown=False)
    dir: Path = setting(Path(STATE_NAME), "where this process keeps its state: stores, and the embedded hub of `dev`")
    app: str = setting("", "the app, as module:name")
    host: str = setting("127.0.0.1", "the address to serve on")
    port: int = setting(8080, "the port to serve the API on")
    health_port: int = setting(
        8081, "the port of a worker's health and metrics: of its first process, and so on upwards"
    )
    processes: int = setting(1, "worker processes")
    standby: int = setting(
        0, "processes that keep a warm store of each partition beside its owner, to take over at once"
    )
    peer_host: str = setting(
        "127.0.0.1", "the address at which other workers reach this one, where standbys run elsewhere"
    )
    drain_timeout: float = setting(30.0, "seconds that running activities get when a worker stops")
    request_timeout: float = setting(30.0, "seconds that a request to the hub may take")
    activities_async_max: int = setting(1000, "async activities that one process runs side by side")
    activities_plain_max: int = setting(64, "plain activities that one process runs side by side, each in a thread")
    instances_cached_max: int = setting(10_000, "instances whose code stays in memory, for each partition")
    retention: timedelta = setting(
        timedelta(0), "how long ended instances are kept and purged ones stay in the log, as 30d or 12h; 0: for ever"
    )
    checkpoint_turns_max: int = setting(5_000, "turns after which a partition makes a checkpoint")
    checkpoint_seconds_max: float = setting(
        60.0, "seconds after which a partition that did anything makes a checkpoint"
    )
    snapshot_records_min: int = setting(
        2_000, "records of a partition's history after which its store may go to the hub's snapshots again"
    )
    log_level: str = setting("info", "debug, info, warning or error")
    log_format: str = setting("auto", "text, json, or auto: text on a terminal")
    kafka: Mapping[str, KafkaValue] = field(
        default_factory=lambda: _EMPTY, metadata={"help": "librdkafka properties"}, repr=False
    )

    def __post_init__(self) -> None:
        """Every process that is given settings hides what is secret in them, however it came by them."""
        hide(secrets_of(self))


def as_option(name: str) -> str:
    """A flag as the command line has it."""
    return f"--{name.replace('_', '-')}"


def as_argument(name: str) -> str:
    """A flag as a call in Python has it."""
    return f"{name}="


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and the source of each: `flag`, a variable, a file, or `default`. `ignored` are variables that look like settings
    and are none, each with the one that was perhaps meant, or "". `spell` is how whoever loaded them writes a flag."""

    settings: Settings
    sources: Mapping[str, str]
    file: Path | None = None
    ignored: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    spell: Callable[[str], str] = field(default=as_option, compare=False)

    def named_now(self, name: str) -> bool:
        """True where a flag or a variable gives the value: whoever started this process meant it."""
        source = self.sources[name]
        return source == "flag" or source.startswith(_PREFIX)


def load_settings(
    flags: Mapping[str, Any] = _EMPTY,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    spell: Callable[[str], str] = as_option,
) -> Loaded:
    """Read the configuration. A flag that is None was not given. Raises ConfigError that names the key and its source."""
    environment = os.environ if environment is None else environment
    file = find_upwards(FILE_NAME, directory or Path.cwd())
    values: dict[str, Any] = {}
    sources = {each.name: "default" for each in fields(Settings)}
    kafka: dict[str, KafkaValue] = {}
    if file is not None:
        _take_file(file, values, kafka, sources)
    ignored = _take_variables(environment, values, kafka, sources)
    for name, value in flags.items():
        if value is not None:
            values[name] = _converted(name, value, spell(name))
            sources[name] = "flag"
    if sources["dir"] == "default":
        values["dir"] = _default_directory(file, directory or Path.cwd())
    settings = Settings(**values, kafka=MappingProxyType(kafka))
    _check(settings, {name: spell(name) if source == "flag" else source for name, source in sources.items()})
    return Loaded(settings, sources, file, ignored, spell)


def find_upwards(name: str, directory: Path) -> Path | None:
    """The nearest file or folder of this name, here or above."""
    directory = directory.absolute()
    return next((found for each in (directory, *directory.parents) if (found := each / name).exists()), None)


def written(value: Any) -> int | float | str:
    """A setting's value as it is written in the file."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        unit, size = next(((unit, size) for unit, size in _UNITS if seconds % size == 0), ("s", 1))
        return f"{seconds / size:g}{unit}" if seconds else "0"
    return value if isinstance(value, int | float | str) else str(value)


def is_secret(key: str) -> bool:
    """True for what `perdure config` must not show."""
    return key not in _NO_SECRETS and any(word in key for word in _SECRET_WORDS)


def secrets_of(settings: Settings) -> list[str]:
    """The values that nothing may show."""
    who, _, _ = settings.url.partition("://")[2].rpartition("@")
    kafka = (str(value) for name, value in settings.kafka.items() if is_secret(name))
    return [secret for secret in (settings.token, who, *kafka) if secret]


def _found(key: str, value: Any) -> str:
    """What was found instead, unless it is a secret that was only written wrongly."""
    return "one that is not shown" if is_secret(key) else f"{value!r:.200}"


def _default_directory(file: Path | None, directory: Path) -> Path:
    """Beside perdure.toml; without one, the nearest that is there and ours; else here."""
    if file is not None:
        return file.parent / STATE_NAME
    directory = directory.absolute()
    there = (each / STATE_NAME for each in (directory, *directory.parents))
    return next(
        (each for each in there if each.exists() and each.stat().st_uid == os.geteuid()), directory / STATE_NAME
    )


def _check_owner(file: Path) -> None:
    """Refuse a file that anybody may have put above us: it names an app to import, and where our token and inputs go."""
    owner, place = file.stat().st_uid, file.parent.stat()
    if owner not in (0, os.geteuid()) and place.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"{file} belongs to user {owner} and stands where everybody may write, so it is not followed; remove it, or work elsewhere"
        )


def _take_file(file: Path, values: dict[str, Any], kafka: dict[str, KafkaValue], sources: dict[str, str]) -> None:
    _check_owner(file)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    known = [each.name for each in fields(Settings)]
    for key, value in content.items():
        if key not in known:
            raise ConfigError(f"{file}: unknown key {key!r}{_did_you_mean(key, known)}")
        if key == "kafka":
            kafka.update(_flattened(value, file))
            sources.update({f"kafka.{name}": str(file) for name in kafka})
        else:
            values[key] = _converted(key, value, str(file))
            sources[key] = str(file)
    if "dir" in content:
        values["dir"] = file.parent / values["dir"]


def _flattened(table: Any, file: Path, prefix: str = "") -> dict[str, KafkaValue]:
    """`[kafka]` with dotted keys: TOML makes tables of `sasl.mechanism`, librdkafka has one name for it."""
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: [kafka] must be a table of librdkafka properties, found a {type(table).__name__}")
    found: dict[str, KafkaValue] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found.update(_flattened(value, file, f"{name}."))
        elif isinstance(value, str | int | float | bool):
            found[name] = value
        else:
            # Not the value: the name may be that of a secret with a slip in it.
            raise ConfigError(
                f"{file}: [kafka] {name} must be a string, number or boolean, found a {type(value).__name__}"
            )
    return found


def _take_variables(
    environment: Mapping[str, str], values: dict[str, Any], kafka: dict[str, KafkaValue], sources: dict[str, str]
) -> Mapping[str, str]:
    known = {f"{_PREFIX}{each.name.upper()}": each.name for each in fields(Settings) if each.name != "kafka"}
    ignored: dict[str, str] = {}
    for variable in sorted(environment):
        if variable in known:
            name = known[variable]
            values[name] = _converted(name, environment[variable], variable)
            sources[name] = variable
        elif variable.startswith(_KAFKA_PREFIX):
            name = variable.removeprefix(_KAFKA_PREFIX).lower().replace("_", ".")
            kafka[name] = environment[variable]
            sources[f"kafka.{name}"] = variable
        elif variable.startswith(_PREFIX) and variable not in _OTHER_VARIABLES:
            word = variable.removeprefix(_PREFIX).lower()
            close = get_close_matches(word, known.values(), n=1, cutoff=_CLOSE)
            ignored[variable] = f"{_PREFIX}{close[0].upper()}" if close else ""
    return ignored


def _converted(name: str, value: Any, source: str) -> Any:
    """A value as its field has it, from a flag, a variable's text or a file."""
    kinds = {each.name: each.type for each in fields(Settings)}
    if name not in kinds or name == "kafka":
        raise ConfigError(f"{source}: no setting is called {name!r}{_did_you_mean(name, kinds)}")
    kind: Any = kinds[name]
    convert = _CONVERT[kind]
    try:
        return convert(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{source}: {name} must be {_KIND_NAMES[kind]}, found {_found(name, value)}") from None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _path(value: Any) -> Path:
    if value == "":  # as a path it would be the working directory
        raise ValueError
    return value if isinstance(value, Path) else Path(_text(value)).expanduser()


_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60))


def _span(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])|0", _text(value).strip())
    if found is None:
        raise ValueError
    return timedelta(**{_SPANS[found[2]]: float(found[1])}) if found[2] else timedelta(0)


_SPANS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_CONVERT: dict[Any, Callable[[Any], Any]] = {
    str: _text,
    int: _whole,
    float: _number,
    Path: _path,
    timedelta: _span,
}
_KIND_NAMES: dict[Any, str] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    Path: "a path",
    timedelta: "a span of time, as 30d, 12h, 15m or 20s",
}
_LEVELS = ("debug", "info", "warning", "error")
_FORMATS = ("auto", "text", "json")


_AT_LEAST_ONE = (
    "processes",
    "activities_async_max",
    "activities_plain_max",
    "instances_cached_max",
    "checkpoint_turns_max",
    "snapshot_records_min",
)


def _check(settings: Settings, places: Mapping[str, str]) -> None:
    """What a value may be, beyond its type."""
    _check_names(settings, places)
    for name, allowed in (("log_level", _LEVELS), ("log_format", _FORMATS)):
        value = getattr(settings, name)
        if value not in allowed:
            raise ConfigError(f"{places[name]}: {name} is one of {', '.join(allowed)}; found {value!r}")
    for name in _AT_LEAST_ONE:
        if getattr(settings, name) < 1:
            raise ConfigError(f"{places[name]}: {name} must be at least 1, found {getattr(settings, name)}")
    for name in ("port", "health_port"):
        if not 0 <= getattr(settings, name) <= 65535:
            raise ConfigError(f"{places[name]}: {name} must be 0 to 65535, found {getattr(settings, name)}")
    if settings.standby < 0:
        raise ConfigError(f"{places['standby']}: standby must be at least 0, found {settings.standby}")
    for name in ("drain_timeout", "request_timeout", "checkpoint_seconds_max"):
        if not 0 <= getattr(settings, name) < float("inf"):
            raise ConfigError(f"{places[name]}: {name} must be a number of seconds, found {getattr(settings, name)}")


def _check_names(settings: Settings, places: Mapping[str, str]) -> None:
    """What becomes part of a topic's name, of an address or of a header."""
    for name in ("host", "peer_host"):
        if not getattr(settings, name).strip():
            raise ConfigError(f"{places[name]}: {name} must not be empty; 0.0.0.0 is every address of this machine")
    try:
        HubTopics(settings.hub)
    except HubNameRefused as error:
        raise ConfigError(f"{places['hub']}: {error}") from error
    check_brokers(settings.brokers, places["brokers"])
    if settings.token and not _HEADER_VALUE.fullmatch(settings.token):
        raise ConfigError(
            f"{places['token']}: a token is visible ASCII without spaces around it; this one, which is not shown, has other characters"
        )


def _did_you_mean(word: str, known: Any) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"
