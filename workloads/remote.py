"""Models that are reached over HTTP: where one is, and what its errors mean for who asked."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from openai import APIConnectionError, APIStatusError

_TOO_MANY_REQUESTS = 429
_FIRST_SERVER_ERROR = 500


class ModelRefused(ValueError):
    """The model will not answer this request however often it is asked."""


class ModelUnavailable(ConnectionError):
    """The model cannot answer at the moment; asking again may help."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible endpoint."""

    url: str
    key: str = field(repr=False)


def configured_endpoint() -> Endpoint | None:
    """Return what PERDURE_MODEL_URL and PERDURE_MODEL_KEY name, if both are set."""
    url, key = os.environ.get("PERDURE_MODEL_URL"), os.environ.get("PERDURE_MODEL_KEY")
    return Endpoint(url, key) if url and key else None


@contextmanager
def told_apart(endpoint: Endpoint) -> Iterator[None]:
    """Raise ModelRefused or ModelUnavailable for what the client raises. Retries are the engine's, so that each is a fact."""
    try:
        yield
    except APIStatusError as error:
        again = error.status_code == _TOO_MANY_REQUESTS or error.status_code >= _FIRST_SERVER_ERROR
        raise (ModelUnavailable if again else ModelRefused)(f"{error.status_code} from the model: {error}") from error
    except APIConnectionError as error:
        raise ModelUnavailable(f"the model at {endpoint.url} cannot be reached: {error}") from error
