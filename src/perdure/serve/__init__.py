"""`perdure serve`: the client's API as HTTP and JSON, described by OpenAPI."""

from .api import ApiParts, create_api
from .server import ApiServer, check_address

__all__ = ["ApiParts", "ApiServer", "check_address", "create_api"]
