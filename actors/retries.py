"""RetryPolicy: how often and when a failed activity or sub-orchestration is tried again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from perdure.schemas.events import NEVER, RetryOptions

from .failures import type_name
from .limits import check_name

ATTEMPTS_MAX = 2**31 - 1
"""What a policy with more attempts comes to; the wire has 32 bits for them."""
_MILLISECOND = timedelta(milliseconds=1)
_ZERO = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How to try again. `non_retriable_errors` are exception types, or names of them, with or without their module."""

    first_retry_interval: timedelta
    max_number_of_attempts: int
    backoff_coefficient: float | None = 1.0
    max_retry_interval: timedelta | None = None
    retry_timeout: timedelta | None = None
    non_retriable_errors: Sequence[str | type[BaseException]] = ()

    def __post_init__(self) -> None:
        _check_span("first_retry_interval", self.first_retry_interval)
        if not isinstance(self.max_number_of_attempts, int):
            raise TypeError(f"max_number_of_attempts is a whole number, not {self.max_number_of_attempts!r:.60}")
        if self.max_number_of_attempts < 1:
            raise ValueError(f"max_number_of_attempts must be >= 1, not {self.max_number_of_attempts}")
        if self.backoff_coefficient is not None and not 1 <= self.backoff_coefficient < float("inf"):
            raise ValueError(f"backoff_coefficient must be >= 1, not {self.backoff_coefficient}")
        for name in ("max_retry_interval", "retry_timeout"):
            if (span := getattr(self, name)) is not None:
                _check_span(name, span)
        if isinstance(self.non_retriable_errors, str):
            raise TypeError("non_retriable_errors is a sequence of types or names, not one name")
        for error in self.non_retriable_errors:
            _check_error(error)


def _check_span(name: str, span: timedelta) -> None:
    if not isinstance(span, timedelta):
        raise TypeError(f"{name} is a timedelta, not {span!r:.60}")
    if span < _ZERO:
        raise ValueError(f"{name} must be >= 0, not {span}")


def _check_error(error: str | type[BaseException]) -> None:
    if not isinstance(error, type):
        check_name("a non-retriable error", error)
    elif not issubclass(error, BaseException):
        raise TypeError(f"a non-retriable error is an exception type or its name, not {error!r:.60}")


def encode_retry_policy(policy: RetryPolicy | None) -> RetryOptions | None:
    """The policy as it is recorded."""
    if policy is None:
        return None
    if not isinstance(policy, RetryPolicy):
        raise TypeError(f"retry_policy is a RetryPolicy, not {policy!r:.60}")
    return RetryOptions(
        milliseconds(policy.first_retry_interval),
        min(policy.max_number_of_attempts, ATTEMPTS_MAX),
        1.0 if policy.backoff_coefficient is None else float(policy.backoff_coefficient),
        NEVER if policy.max_retry_interval is None else milliseconds(policy.max_retry_interval),
        NEVER if policy.retry_timeout is None else milliseconds(policy.retry_timeout),
        tuple(error if isinstance(error, str) else type_name(error) for error in policy.non_retriable_errors),
    )


def milliseconds(span: timedelta) -> int:
    """Whole milliseconds, rounded up: nothing happens before its time."""
    whole, rest = divmod(span, _MILLISECOND)
    return whole + bool(rest)


def encode_time_limit(name: str, span: timedelta | None) -> int:
    """A time-out as it is recorded: milliseconds, or NEVER."""
    if span is None:
        return NEVER
    if not isinstance(span, timedelta):
        raise TypeError(f"{name} is a timedelta, not {span!r:.60}")
    if span <= _ZERO:
        raise ValueError(f"{name} must be greater than zero, not {span}")
    return milliseconds(span)
