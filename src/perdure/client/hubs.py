"""Errors of the log as errors of the front of the house."""

from collections.abc import Iterator
from contextlib import contextmanager

from perdure.errors import ConfigError, HubMissing, HubRefused, HubUnavailable, PerdureError
from perdure.partitions import ports
from perdure.partitions.private import NotPrivate
from perdure.partitions.skew import ClockOff
from perdure.partitions.topics import HubNameRefused

# The most particular first.
_ERRORS: tuple[tuple[type[Exception], type[PerdureError]], ...] = (
    (ports.SettingRefused, ConfigError),
    (HubNameRefused, ConfigError),
    (ports.HubMissing, HubMissing),
    (ports.HubRefused, HubRefused),
    (NotPrivate, HubRefused),
    (ports.LogRefused, HubRefused),
    (ports.LogUnavailable, HubUnavailable),
    (ports.LogLocked, HubUnavailable),
    (ports.LogCorrupt, HubRefused),
    (ports.LogTruncated, HubRefused),
    (ClockOff, HubRefused),
    (ports.StoreLocked, HubUnavailable),
    (ports.StoreUnavailable, HubUnavailable),
)


@contextmanager
def open_errors() -> Iterator[None]:
    """Raise what the log raises as HubError, or ConfigError where it is about a setting."""
    try:
        yield
    except tuple(kind for kind, _ in _ERRORS) as error:
        public = next(public for kind, public in _ERRORS if isinstance(error, kind))
        raise public(str(error)) from error
