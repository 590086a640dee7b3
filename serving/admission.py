"""Who may come in: network, key, role, rate, and how many at once."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
from fastapi import Request

from mobile_multimodal.errors import DataError, UsageError
from serving.access import IpAllowList, address_group, client_address
from serving.api_keys import KeyRecord, KeyStore
from serving.http_errors import ProblemError, overloaded
from serving.metrics import OVERLOADED, RATE_LIMITED
from serving.rate_limits import RateLimiter
from serving.request_body import whole_body
from serving.service import Service
from serving.settings import ServiceSettings

__all__ = ["Admission", "check_settings"]

ADMIN = "admin"
WHOSE = {"client": "of one client", "service": "of all clients"}
MOST_DENIED = 10_000
BEARER = "bearer "


def check_settings(settings: ServiceSettings) -> None:
    """Refuse to serve everyone without having been told to.

    Raises:
        UsageError: strict mode without keys and without leave to serve anonymous clients; a network that is
            none.
        DataError: the file of keys cannot be read.
    """
    IpAllowList(settings.allowed_ips, variable="ALLOWED_IPS")
    IpAllowList(settings.trusted_proxies, variable="TRUSTED_PROXIES")
    if settings.api_keys_file is not None:
        KeyStore(settings.api_keys_file).records()
    elif settings.security_strict_mode and not settings.allow_anonymous:
        raise UsageError(
            "SECURITY_STRICT_MODE is on and there are no API keys",
            remedy="set API_KEYS_FILE (mmllm keys create makes one), or give --allow-anonymous",
        )


class Admission:
    """Lets requests in, or says why not."""

    def __init__(self, settings: ServiceSettings, service: Service) -> None:
        self._settings, self._service = settings, service
        self._keys = None if settings.api_keys_file is None else KeyStore(settings.api_keys_file)
        self._anonymous = settings.allow_anonymous or (
            self._keys is None and not settings.security_strict_mode
        )
        self._allowed = IpAllowList(settings.allowed_ips, variable="ALLOWED_IPS")
        self._limiter = RateLimiter(
            settings.rate_limit_per_minute,
            settings.redis_url or None,
            service_per_minute=settings.service_rate_limit_per_minute,
        )
        self._log = structlog.get_logger("mmllm.admission")
        self._denied: OrderedDict[str, None] = OrderedDict()

    async def identify(self, request: Request, *, admin: bool = False) -> str:
        """Who asks: the id of a key, or an address where that is enough.

        Raises:
            ProblemError: 401 without a good key, 403 from a wrong network or in a wrong role.
        """
        peer = request.client.host if request.client is not None else ""
        # A client may have written one line of this header, and a proxy the next.
        forwarded = ",".join(request.headers.getlist("x-forwarded-for")) or None
        address = client_address(peer, forwarded, self._settings.trusted_proxies)
        if not self._allowed.allows(address):
            raise ProblemError(HTTPStatus.FORBIDDEN, "wrong-network", "this address may not use the service")
        record = await self._record(request, address)
        if admin and self._keys is not None and (record is None or record.role != ADMIN):
            raise ProblemError(HTTPStatus.FORBIDDEN, "wrong-role", "this needs a key of the role admin")
        return f"address:{address_group(address)}" if record is None else f"key:{record.id}"

    async def _record(self, request: Request, address: str) -> KeyRecord | None:
        presented = request.headers.get("x-api-key", "")
        authorization = request.headers.get("authorization", "")
        if not presented and authorization.lower().startswith(BEARER):
            presented = authorization[len(BEARER) :].strip()
        if self._keys is not None and presented:
            if address_group(address) in self._denied:  # checking is slow: strangers pay for it by their rate
                await self._count(f"denied:{address_group(address)}")
            try:
                record = await self._keys.check(presented)
            except DataError as exc:
                self._log.error("the API keys cannot be read", error=str(exc))
                raise ProblemError(
                    HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "the service's API keys cannot be read"
                ) from exc
            if record is not None:
                return record
            self._deny(address_group(address))
        elif self._anonymous:
            return None
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED,
            "no-key",
            "this needs an API key in X-API-Key, or in Authorization: Bearer",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _deny(self, address: str) -> None:
        """Remember who came with a wrong key; the longest ago are forgotten."""
        self._denied[address] = None
        self._denied.move_to_end(address)
        if len(self._denied) > MOST_DENIED:
            self._denied.popitem(last=False)

    async def _count(self, identity: str) -> None:
        verdict = await self._limiter.hit(identity)
        if not verdict.allowed:
            RATE_LIMITED.inc()
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "rate-limited",
                f"more than {verdict.limit} requests in a minute {WHOSE[verdict.scope]}",
                headers={"Retry-After": str(max(1, math.ceil(verdict.retry_after_s)))},
            )

    async def close(self) -> None:
        """Let the connections go."""
        await self._limiter.aclose()

    @asynccontextmanager
    async def admit(self, request: Request) -> AsyncIterator[None]:
        """Hold one of the places for as long as a request is worked on.

        It is taken when the whole body is there: who sends slowly holds none. While the model loads, requests
        wait for it, so that nothing is refused by an instance that was just started.

        Raises:
            ProblemError: as :meth:`identify`; 408 for a body, and 503 for a model, that is not there in time;
                429 above the rate; 503 above the number of requests at once.
        """
        await self._count(await self.identify(request))
        service = self._service
        await whole_body(request, self._settings.request_timeout_s)
        if not service.places.take():
            OVERLOADED.inc()
            raise overloaded()
        try:
            await service.until_loaded(self._settings.request_timeout_s)
            if service.engine is None or service.state != "ready":
                raise ProblemError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "not-ready",
                    f"the model is {service.state}",
                    headers={"Retry-After": "2"},
                )
            yield
        finally:
            service.places.leave()
