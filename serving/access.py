"""Where a request comes from, and which networks may ask."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from mobile_multimodal.errors import UsageError

__all__ = ["IpAllowList", "address_group", "client_address"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class IpAllowList:
    """Networks (CIDR, or single addresses) that may ask; none at all means that every one may.

    ``variable`` is the setting that names them, for the error.

    Raises:
        UsageError: a value that is no network.
    """

    def __init__(self, networks: Sequence[str], *, variable: str = "ALLOWED_IPS") -> None:
        self._networks = _parsed(tuple(networks), variable)

    def allows(self, address: str) -> bool:
        """Whether this address is in one of the networks; what is no address is in none."""
        return not self._networks or _is_in(_address(address), self._networks)


def client_address(peer: str, forwarded_for: str | None, trusted_proxies: Sequence[str]) -> str:
    """The address that a request comes from.

    ``peer`` is the other end of the connection. ``forwarded_for`` is X-Forwarded-For; several such headers
    are joined by commas, in their order. It is read only where the peer is in ``trusted_proxies``, and from
    its right end, where the nearest proxy writes: the first address that is no trusted proxy is the
    client. What stands further left was written by the client. Anything in the way that is no address
    makes the peer the client.

    Raises:
        UsageError: a proxy that is no network.
    """
    proxies = _parsed(tuple(trusted_proxies), "TRUSTED_PROXIES")
    nearest = _address(peer)
    if nearest is None:
        return peer
    client = nearest
    if forwarded_for and _is_in(nearest, proxies):
        for entry in reversed(forwarded_for.split(",")):
            before = _address(entry.strip())
            if before is None:
                return str(nearest)
            client = before
            if not _is_in(client, proxies):
                break
    return str(client)


def address_group(address: str) -> str:
    """Who shares a rate limit with an address: an IPv6 client owns its whole /64, an IPv4 one itself."""
    found = _address(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((found, 64), strict=False))
    return address if found is None else str(found)


@functools.lru_cache(maxsize=32)
def _parsed(networks: tuple[str, ...], variable: str) -> tuple[Network, ...]:
    return tuple(_network(text, variable) for text in networks)


def _network(text: str, variable: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as exc:
        try:
            remedy = f"did you mean {ip_network(text, strict=False)}?"
        except ValueError:
            remedy = "give networks like 10.0.0.0/8, or addresses, with commas between them"
        raise UsageError(f"{variable}: {text!r} is no network", remedy=remedy) from exc


def _address(text: str) -> Address | None:
    """The address as it is compared: IPv4 within IPv6 as IPv4, no zone; None where it is none."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        return found.ipv4_mapped or IPv6Address(int(found))
    return found


def _is_in(address: Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks)
