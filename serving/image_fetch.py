"""A picture from a URL that a stranger gave: from public hosts alone, bounded in bytes and time."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from mobile_multimodal.errors import FetchError, MissingExtraError

try:
    import httpx
    from httpx_secure import httpx_ssrf_protection
except ImportError as exc:
    raise MissingExtraError(exc.name or "httpx", "serve") from exc

__all__ = ["Address", "fetch_image", "is_public"]

Address = IPv4Address | IPv6Address

_MOST_REDIRECTS = 5
_MOST_ADDRESSES = 4
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)
_HEADERS = {
    "User-Agent": "mmllm (image captioning service)",
    "Accept": "image/*,*/*;q=0.5",
    "Accept-Encoding": "identity",  # or a few bytes become many
}
# What Python 3.11 calls global and is not, or is a cloud's own: IANA's registries of special addresses,
# Azure's 168.63.129.16, Oracle's 192.0.0.192; IPv6 that holds an IPv4 address.
_NOT_PUBLIC_4 = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
_NOT_PUBLIC_6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")

# These two log whole addresses, and an address may hold what opens somebody's store of pictures.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def is_public(address: Address) -> bool:
    """Whether an address is a host of the public internet.

    Private, loopback, link-local, shared, multicast and reserved ones are not, nor those where clouds
    keep their metadata; an IPv6 address that holds an IPv4 address is not either, but for NAT64's, which
    are as public as what they hold.
    """
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        is_listed = any(address in network for network in _NOT_PUBLIC_6)
        return address in _GLOBAL_UNICAST and address.is_global and not is_listed
    is_listed = any(address in network for network in _NOT_PUBLIC_4)
    return address.is_global and not address.is_multicast and not is_listed


async def fetch_image(
    url: str,
    *,
    strict: bool,
    max_bytes: int,
    timeout_s: float,
    allowed: Callable[[Address], bool] = is_public,
) -> bytes:
    """Fetch the bytes behind a URL; whether they are a picture is seen when they are decoded.

    Every host, also of a redirect, is looked up once, and all its addresses must be ``allowed`` before
    any is connected to: a name that changes what it stands for is never asked again, and an internal
    host never sees a connection. Of an internal host the error says the same as of one that does not
    exist. Proxies of the environment are not used; ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` are.

    Args:
        url: http or https; with ``strict`` https alone, all along the redirects.
        strict: refuse http.
        max_bytes: the most that is read.
        timeout_s: the longest that all of it may take, in seconds.
        allowed: which addresses may be connected to.

    Raises:
        FetchError: another scheme, a user name in the URL, a host that is not allowed, unknown or does
            not answer, a status other than 200, more than 5 redirects, too many bytes or seconds.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _fetch(url, strict, max_bytes, timeout_s, allowed)
    except TimeoutError as exc:
        raise FetchError(
            f"the image_url was not complete after {timeout_s:g} s", remedy="send the picture itself"
        ) from exc


async def _fetch(
    text: str, strict: bool, max_bytes: int, timeout_s: float, allowed: Callable[[Address], bool]
) -> bytes:
    url = _parsed(text, None)
    for _ in range(_MOST_REDIRECTS + 1):
        host = _checked_host(url, strict)
        addresses = await _resolved(host, url.port or (443 if url.scheme == "https" else 80), allowed)
        answer = await _ask_first_that_answers(url, host, addresses, max_bytes, timeout_s, allowed)
        if isinstance(answer, bytes):
            return answer
        url = _parsed(answer, url)
    raise FetchError(
        f"the image_url redirects more than {_MOST_REDIRECTS} times", remedy="give the final address"
    )


def _parsed(text: str, base: httpx.URL | None) -> httpx.URL:
    try:
        return httpx.URL(text) if base is None else base.join(text)
    except (httpx.InvalidURL, ValueError) as exc:
        what = "the image_url is" if base is None else "the image_url redirects to"
        raise FetchError(f"{what} no address", remedy="check the address") from exc


def _checked_host(url: httpx.URL, strict: bool) -> str:
    """The host as it is looked up and as its certificate must name it."""
    schemes = ("https",) if strict else ("http", "https")
    if url.scheme not in schemes:
        message = f"the image_url leads to {url.scheme[:20] or 'no scheme'}:, not {' or '.join(schemes)}"
        raise FetchError(message, remedy="give another address, or send the picture itself")
    if url.userinfo:
        raise FetchError(
            "the image_url holds a user name or a password", remedy="give an address that needs none"
        )
    host = url.raw_host.decode("ascii")
    is_host = _is_ipv6(host) if ":" in host else len(host) <= 253 and _NAME.fullmatch(host)
    if not is_host or not (url.port is None or 0 < url.port < 65536):
        raise FetchError("the image_url names no host", remedy="check the address")
    return host.removesuffix(".")


def _is_ipv6(text: str) -> bool:
    try:
        return IPv6Address(text).scope_id is None
    except ValueError:
        return False


async def _resolved(host: str, port: int, allowed: Callable[[Address], bool]) -> list[Address]:
    """Every address of a host, all of them allowed."""
    addresses: list[Address] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(ip_address(item[4][0]) for item in found))
    except (OSError, ValueError):
        pass  # told as an internal host is, so that names cannot be probed
    if not addresses or not all(map(allowed, addresses)):
        raise FetchError(f"the host {host} is unknown or not public", remedy="check the address")
    return addresses[:_MOST_ADDRESSES]


async def _ask_first_that_answers(
    url: httpx.URL,
    host: str,
    addresses: Sequence[Address],
    max_bytes: int,
    timeout_s: float,
    allowed: Callable[[Address], bool],
) -> bytes | str:
    """The bytes at the URL, or where it redirects to."""
    timeout = httpx.Timeout(timeout_s, connect=timeout_s / len(addresses))
    for address in addresses:
        try:
            # A client for each address: no cookie and no connection is shared between hosts.
            async with _client(timeout, allowed) as client:
                request = client.build_request(
                    "GET",
                    url.copy_with(host=str(address), fragment=None),
                    headers={"Host": url.netloc.decode("ascii")},
                    extensions={"sni_hostname": host},
                )
                return await _answer(client, request, host, max_bytes)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
            raise FetchError(
                f"{host} does not answer as a web server should", remedy="check the address"
            ) from exc
    raise FetchError(f"{host} cannot be reached, or has no valid certificate", remedy="check the address")


def _client(timeout: httpx.Timeout, allowed: Callable[[Address], bool]) -> httpx.AsyncClient:
    """A client that connects to allowed addresses alone, whatever it is asked."""
    client = httpx.AsyncClient(
        headers=_HEADERS,
        timeout=timeout,
        trust_env=False,
        verify=_certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
    )
    return httpx_ssrf_protection(
        client,
        check_globally_reachable=False,  # is_public refuses all that this would, and more
        custom_validator=lambda _host, address, _port: allowed(address),
    )


@functools.lru_cache(maxsize=4)
def _certificates(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Certificates that are trusted: reading them takes tens of milliseconds."""
    del file, folder  # httpx reads them itself
    return httpx.create_ssl_context()


async def _answer(
    client: httpx.AsyncClient, request: httpx.Request, host: str, max_bytes: int
) -> bytes | str:
    response = await client.send(request, stream=True)
    try:
        if response.status_code in _REDIRECTS and "location" in response.headers:
            return response.headers["location"]
        if response.status_code != 200:
            raise FetchError(f"{host} answers {response.status_code}", remedy="check the address")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise FetchError(f"{host} compresses its answer", remedy="send the picture itself")
        if int(response.headers.get("content-length", 0)) > max_bytes:
            raise _too_large(host, max_bytes)
        return await _read(response, host, max_bytes)
    finally:
        await response.aclose()


async def _read(response: httpx.Response, host: str, max_bytes: int) -> bytes:
    content = bytearray()
    async for piece in response.aiter_raw():
        content += piece
        if len(content) > max_bytes:
            raise _too_large(host, max_bytes)
    if not content:
        raise FetchError(f"{host} sends nothing", remedy="check the address")
    return bytes(content)


def _too_large(host: str, max_bytes: int) -> FetchError:
    return FetchError(f"{host} sends more than {max_bytes / 2**20:g} MiB", remedy="give a smaller picture")
