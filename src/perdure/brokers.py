"""Addresses of brokers, as the configuration has them."""

import re

from .errors import ConfigError

_PORT = 9_092
_PORT_MAX = 65_535
# A name, an IPv4 address, or an IPv6 address in brackets; without a port the client takes 9092.
_ADDRESS = re.compile(r"(?:[^\s,:;/@\[\]]+|\[[0-9A-Fa-f:.]+(?:%[^\s,\]]+)?\])(?::([0-9]{1,5}))?")


def check_brokers(text: str, place: str) -> None:
    """What is no address would be tried until the time is over. `place` is where it comes from. Raises ConfigError."""
    if "@" in text:  # which is not shown, since a password may stand before it
        raise ConfigError(
            f"{place}: brokers are host:port,host:port, without an @; who we are to them stands in [kafka], as sasl.username and sasl.password"
        )
    addresses = [each.strip() for each in text.split(",")]
    if text and not any(addresses):
        raise ConfigError(f"{place}: brokers are host:port,host:port; found {text!r:.200}")
    for each in filter(None, addresses):
        scheme, found, _ = each.partition("://")
        if found:
            raise ConfigError(
                f"{place}: brokers are host:port,host:port, without {scheme}://; how to speak to them stands in [kafka], as "
                f"security.protocol; found {each!r:.200}"
            )
        address = _ADDRESS.fullmatch(each)
        if address is None or not 0 < int(address[1] or _PORT) <= _PORT_MAX:
            raise ConfigError(
                f"{place}: brokers are host:port,host:port, as kafka-1:9092 or [::1]:9092; found {each!r:.200}"
            )
