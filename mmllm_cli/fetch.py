"""A picture from a URL: http and https only, bounded in size, time and redirects."""

from __future__ import annotations

import http.client
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import Future
from dataclasses import dataclass
from email.message import Message
from typing import IO

from mobile_multimodal.errors import FetchError

__all__ = ["FetchLimits", "fetch_image", "is_url"]

_HTML = re.compile(
    rb"^\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype html|<html|<head|<body)", re.IGNORECASE | re.DOTALL
)
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class FetchLimits:
    """How much a URL may cost: bytes, seconds in all, and seconds of silence."""

    max_bytes: int = 64 * 2**20
    total_s: float = 60.0
    silence_s: float = 15.0


def is_url(text: str) -> bool:
    """Whether a command-line argument names a URL of any scheme (``http://…``, ``ftp://…``)."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def fetch_image(url: str, limits: FetchLimits | None = None) -> bytes:
    """Fetch the bytes behind an http or https URL; whether they are a picture is seen when they are read.

    Raises:
        FetchError: another scheme, no answer, a status other than 200, an HTML page, more bytes or
            seconds than the limits allow, or a redirect that leaves http and https.
    """
    limits = limits or FetchLimits()
    _check_scheme(url, url)
    result: Future[bytes] = Future()

    def work() -> None:
        try:
            result.set_result(_fetch(url, limits))
        except BaseException as exc:  # noqa: BLE001 - raised again where the result is awaited
            result.set_exception(exc)

    # A name that never resolves and headers that drip in pass every socket timeout: the deadline is
    # kept from outside. The thread is a daemon and ends with its own timeouts.
    threading.Thread(target=work, name="fetch", daemon=True).start()
    try:
        return result.result(timeout=limits.total_s)
    except TimeoutError:
        raise _too_slow(url, limits) from None


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follow a few redirects, to http and https only."""

    max_redirections = 5

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message
    ) -> IO[bytes] | None:
        target = headers.get("location") or headers.get("uri")
        if target:
            # The base class follows ftp: too, and its refusal of file: does not name the target.
            _check_scheme(urllib.parse.urljoin(req.get_full_url(), target), req.get_full_url())
        return super().http_error_302(req, fp, code, msg, headers)  # type: ignore[arg-type]

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener() -> urllib.request.OpenerDirector:
    """An opener without the file, ftp and data handlers that urllib adds by itself."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _CheckedRedirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [
        ("User-Agent", "mmllm (image captioning command line)"),
        ("Accept", "image/*,*/*;q=0.5"),
        ("Accept-Encoding", "identity"),
    ]
    return opener


def _fetch(url: str, limits: FetchLimits) -> bytes:
    deadline = time.monotonic() + limits.total_s
    ascii_url = urllib.parse.quote(url, safe=":/?#[]@!$&'()*+,;=%~-._")
    try:
        with _opener().open(ascii_url, timeout=min(limits.silence_s, limits.total_s)) as response:
            return _read(response, url, limits, deadline)
    except urllib.error.HTTPError as exc:
        if "redirect" in str(exc.reason).lower():
            message = f"{url} redirects more than {_CheckedRedirects.max_redirections} times"
            raise FetchError(message, remedy="give the final address") from exc
        raise FetchError(f"{url} answers {exc.code} {exc.reason}", remedy="check the address") from exc
    except TimeoutError as exc:
        raise _too_slow(url, limits) from exc
    except urllib.error.URLError as exc:
        if isinstance(exc.reason, TimeoutError):
            raise _too_slow(url, limits) from exc
        raise FetchError(f"{url} cannot be reached: {exc.reason}", remedy="check the address") from exc
    except (OSError, ValueError, http.client.HTTPException) as exc:
        reason = str(exc) or type(exc).__name__
        raise FetchError(f"{url} cannot be fetched: {reason}", remedy="check the address") from exc


def _read(response: http.client.HTTPResponse, url: str, limits: FetchLimits, deadline: float) -> bytes:
    if response.status != 200:
        raise FetchError(f"{url} answers {response.status} {response.reason}", remedy="check the address")
    announced = int(response.headers.get("Content-Length") or 0)
    if announced > limits.max_bytes:
        raise _too_large(url, limits)
    body = bytearray()
    while chunk := response.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > limits.max_bytes:
            raise _too_large(url, limits)
        if time.monotonic() > deadline:
            raise _too_slow(url, limits)
    if len(body) < announced:
        message = f"{url} ended after {len(body):,} of {announced:,} bytes"
        raise FetchError(message, remedy="try again")
    if _HTML.match(body[:2048]) or response.headers.get_content_type() == "text/html":
        raise FetchError(
            f"{url} is an HTML page, not a picture", remedy="give the address of the picture itself"
        )
    return bytes(body)


def _check_scheme(url: str, shown: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as exc:
        raise FetchError(f"{url} is not an address: {exc}", remedy="check the address") from exc
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https"):
        leads_to = f"{shown} redirects to {scheme}:" if url != shown else f"{shown} is a {scheme}: address"
        raise FetchError(f"{leads_to}, not http or https", remedy="download the picture and give its path")
    if "@" in parts.netloc:
        raise FetchError(
            f"{scheme}://{parts.netloc.rpartition('@')[2]} is given with a user name or password",
            remedy="download the picture and give its path",
        )


def _too_large(url: str, limits: FetchLimits) -> FetchError:
    return FetchError(
        f"{url} has more than {limits.max_bytes / 2**20:g} MiB", remedy="download it and save it smaller"
    )


def _too_slow(url: str, limits: FetchLimits) -> FetchError:
    return FetchError(
        f"{url} is too slow: not complete after {limits.total_s:g} s, or silent for {limits.silence_s:g} s",
        remedy="give a longer --url-timeout, or download the picture and give its path",
    )
