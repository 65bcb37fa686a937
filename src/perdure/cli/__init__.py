"""The command line: `perdure`."""

from .root import app, main

__all__ = ["app", "main"]
