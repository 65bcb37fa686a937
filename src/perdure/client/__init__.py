"""Clients: start instances, wait for them, ask things of them, over Kafka, over HTTP or in the process of the hub."""

from .aio import AsyncClient, AsyncHandle
from .requests import IfExists, ListOptions, Started, StartOptions
from .sync import Client, Handle
from .views import Held, History, Instance, Page

__all__ = [
    "AsyncClient",
    "AsyncHandle",
    "Client",
    "Handle",
    "Held",
    "History",
    "IfExists",
    "Instance",
    "ListOptions",
    "Page",
    "StartOptions",
    "Started",
]
