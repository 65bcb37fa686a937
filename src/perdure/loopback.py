"""Which names mean this machine, and nobody beyond it; and where on it something listens."""

import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """True for `localhost` and the addresses of the loopback interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(listener: socket.socket) -> str:
    """Where a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(host), str(host))  # noqa: S104 - told apart, not bound
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
