"""The pytest plugin: the fixture `perdure_env`. Loads nothing of the engine until a test asks for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .testing import Environment


@pytest.fixture
def perdure_env() -> "Iterator[Callable[..., Environment]]":
    """Make environments that end with the test: `env = perdure_env(app)`; it takes what `perdure.testing.run` takes."""
    from .testing import run

    with ExitStack() as stack:

        def make(app: Any, **options: Any) -> "Environment":
            return stack.enter_context(run(app, **options))

        yield make
