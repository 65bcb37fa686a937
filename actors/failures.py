"""From exceptions to Failures and back. A type is rebuilt only if the app registered it, never imported by a name from the log."""

import traceback
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any

import orjson

from perdure.schemas.events import NULL, Failure

from .errors import NonRetriableError, TaskFailedError, ValueRefused

CAUSES_MAX = 16
MESSAGE_CHARS_MAX = 4_000
STACK_CHARS_MAX = 8_000
TYPE_CHARS_MAX = 400

ExceptionTypes = Mapping[str, type[Exception]]
NO_TYPES: ExceptionTypes = MappingProxyType({})


def type_name(kind: type[BaseException]) -> str:
    """The name that a failure carries: qualified by the module, unless it is a builtin or ours."""
    module = str(kind.__module__)  # an author may have set it to anything
    return (
        kind.__qualname__ if module == "builtins" or module.startswith("perdure.") else f"{module}.{kind.__qualname__}"
    )


def failure_of(error: BaseException) -> Failure:
    """What went wrong, as data. Never raises, whatever the author's exception does when it is asked."""
    try:
        return _failure_of(error, CAUSES_MAX)
    except Exception as broken:  # noqa: BLE001 - of an exception's class anything may be overridden
        return Failure("Exception", f"(it could not be described: {type(broken).__name__})")


def _failure_of(error: BaseException, links_left: int) -> Failure:
    message = _message_of(error)
    return Failure(
        _clean(type_name(type(error)), TYPE_CHARS_MAX),
        message,
        _stack_of(error),
        _cause_of(error, links_left - 1),
        not isinstance(error, NonRetriableError | ValueRefused),
        _arguments_of(error, message),
    )


def _cause_of(error: BaseException, links_left: int) -> Failure | None:
    if isinstance(error, TaskFailedError):
        return _cut(error.failure, links_left)
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    return _failure_of(cause, links_left) if cause is not None and links_left > 0 else None


def _cut(failure: Failure, links_left: int) -> Failure | None:
    """A failure from another instance, with so many links at most: chains of failing children must not grow for ever."""
    if links_left <= 0:
        return None
    cause = _cut(failure.cause, links_left - 1) if failure.cause is not None else None
    return Failure(failure.type, failure.message, failure.stack, cause, failure.retriable, failure.details)


def _message_of(error: BaseException) -> str:
    try:
        text = str(error)
        if isinstance(error, BaseExceptionGroup):
            text = "; ".join([text, *(f"{type_name(type(part))}: {part}" for part in error.exceptions)])
    except Exception as broken:  # noqa: BLE001 - the author's __str__ may do anything; the failure must still be told
        text = f"(its message could not be made: {type(broken).__name__})"
    return _clean(text, MESSAGE_CHARS_MAX)


def _stack_of(error: BaseException) -> str:
    frames = _skip_ours(error.__traceback__)
    try:
        return _clean("".join(traceback.format_tb(frames)), STACK_CHARS_MAX)
    except Exception:  # noqa: BLE001 - source files may be unreadable in any way
        return ""


def _skip_ours(frames: TracebackType | None) -> TracebackType | None:
    """Begin at the author's first frame: ours differ between a first run and a replay."""
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__", "")).startswith("perdure."):
        frames = frames.tb_next
    return frames


def _clean(text: str, chars_max: int) -> str:
    """Text that UTF-8 can hold, with its middle left out where it is too long."""
    if len(text) > chars_max:
        text = f"{text[: chars_max // 4]}\n...\n{text[-(chars_max - chars_max // 4) :]}"
    return text.encode("utf-8", "backslashreplace").decode()


def _arguments_of(error: BaseException, message: str) -> bytes:
    """What a registered type is rebuilt from, where its message is not enough."""
    try:
        if error.args in ((), (message,)):
            return NULL
        arguments = orjson.dumps(list(error.args))
    except Exception:  # noqa: BLE001 - of the author's arguments any may refuse to be compared or written
        return NULL
    return arguments if len(arguments) <= MESSAGE_CHARS_MAX else NULL


def error_of(what: str, failure: Failure, types: ExceptionTypes = NO_TYPES) -> TaskFailedError:
    """What awaiting the failed task raises; `what` names the task."""
    error = TaskFailedError(f"{what} failed: {failure.type}: {failure.message}", failure)
    error.__cause__ = rebuild(failure, types)
    return error


def rebuild(failure: Failure, types: ExceptionTypes) -> Exception | None:
    """The original exception, if its type is registered and can be made from its arguments."""
    kind = types.get(failure.type)
    if kind is None:
        return None
    arguments = _details_of(failure)
    if not isinstance(arguments, list):
        arguments = [failure.message] if failure.message else []
    try:
        error = kind(*arguments)
    except Exception:  # noqa: BLE001 - the author's __init__ may do anything; the failure itself is kept
        return None
    if failure.cause is not None:
        error.__cause__ = rebuild(failure.cause, types)
    return error


def _details_of(failure: Failure) -> Any:
    try:
        return orjson.loads(failure.details)
    except orjson.JSONDecodeError:
        return None
