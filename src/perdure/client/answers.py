"""Answers that are none: who can write to a client may write anything, and the client says so in its own words."""

from collections.abc import Iterator
from contextlib import contextmanager

from perdure.errors import HubRefused, PerdureError

# What reading a value of another shape raises.
_OTHER_SHAPES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@contextmanager
def reading_answer(about: str) -> Iterator[None]:
    """Raise HubRefused where an answer cannot be read as one."""
    try:
        yield
    except PerdureError:
        raise
    except _OTHER_SHAPES as error:
        raise HubRefused(
            f"the answer about {about} is none of this version's: {type(error).__name__}: {error!s:.200}; check that all workers "
            "and clients of the hub are of one version, and who else may write its replies"
        ) from error
