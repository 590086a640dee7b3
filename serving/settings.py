"""What an operator sets, from environment variables; a wrong value stops the start with one line."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mobile_multimodal.errors import UsageError

__all__ = ["ServiceSettings", "load_settings"]

MIB = 2**20
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
Networks = Annotated[tuple[str, ...], NoDecode]


class ServiceSettings(BaseSettings):
    """The service's settings; each is an environment variable of the same name in capitals.

    Requests at once are counted over all worker processes; memory is shared out evenly among them.
    ``allowed_ips`` and ``trusted_proxies`` are networks, comma-separated; an empty ``redis_url`` means none.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=False)

    environment: Literal["production", "staging", "development", "test"] = "production"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    max_workers: int = Field(default=4, ge=1, le=64)
    batch_size: int = Field(default=8, ge=1, le=64)
    cache_size_mb: int = Field(default=512, ge=0, le=65536)
    max_concurrent_requests: int = Field(default=50, ge=1, le=10_000)
    rate_limit_per_minute: int = Field(default=1000, ge=1)
    service_rate_limit_per_minute: int | None = Field(default=None, ge=1)
    security_strict_mode: bool = True
    monitoring_enabled: bool = True
    redis_url: str = "redis://localhost:6379"
    model: str | None = None
    api_keys_file: Path | None = None
    allow_anonymous: bool = False
    allowed_ips: Networks = ()
    trusted_proxies: Networks = ()
    request_timeout_s: float = Field(default=10.0, gt=0, le=300)
    max_body_mb: int = Field(default=10, ge=1, le=256)
    log_file: Path | None = None

    @field_validator("allowed_ips", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("model", "api_keys_file", "log_file", "service_rate_limit_per_minute", mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return value or None

    @field_validator("redis_url")
    @classmethod
    def _scheme(cls, value: str) -> str:
        if value and not value.startswith(REDIS_SCHEMES):
            raise ValueError(f"begins with none of {', '.join(REDIS_SCHEMES)}")
        return value

    @property
    def bodies_per_worker(self) -> int:
        """Bodies and fetched pictures for which one process has memory, in the largest that are allowed."""
        return math.ceil(self.max_concurrent_requests / self.max_workers)

    @property
    def cache_bytes_per_worker(self) -> int:
        """Memory for results and features in one process."""
        return self.cache_size_mb * MIB // self.max_workers


def load_settings() -> ServiceSettings:
    """The settings as the environment has them.

    Raises:
        UsageError: a value that cannot be, with the variable's name.
    """
    try:
        return ServiceSettings()
    except ValidationError as exc:
        first = exc.errors()[0]
        name = str(first["loc"][0]).upper()
        raise UsageError(
            f"{name}={os.environ.get(name, '')!r}: {first['msg'].removeprefix('Value error, ').lower()}",
            remedy=f"set {name} anew, or unset it",
        ) from exc
