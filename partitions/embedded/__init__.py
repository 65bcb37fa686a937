"""The log in one process and one directory: durable, with no broker."""

from .hub import EmbeddedHub
from .log import EmbeddedLog
from .reader import EmbeddedReader

__all__ = ["EmbeddedHub", "EmbeddedLog", "EmbeddedReader"]
