"""Which names mean this machine, and nobody beyond it."""

import ipaddress


def is_loopback(host: str) -> bool:
    """True for `localhost` and the addresses of the loopback interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
