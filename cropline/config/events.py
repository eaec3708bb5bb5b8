"""Settings of cropline's own events: a webhook that receives committed batches and erasures."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from cropline.config.group import Group


class EventSettings(Group):
    """A webhook for cropline's own events. Empty: none are made."""

    url: SecretStr = Field(SecretStr(""), description="http(s) address of the receiver; a query is kept; secret")
    secret: SecretStr = Field(SecretStr(""), description="key of the HMAC-SHA256 signature; at least 16 characters")
    timeout_s: float = Field(2, gt=0, le=60, description="the most time that the webhook may cost a run")

    @property
    def wanted(self) -> bool:
        """Whether events are made."""
        return bool(self.url.get_secret_value())

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        if not self.wanted:
            return self
        try:
            parts = urlsplit(self.url.get_secret_value())
            _ = parts.port  # raises on a port that is not a number
        except ValueError:
            raise ValueError("url is not http(s)://host[:port]/path") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
            raise ValueError("url is not http(s)://host[:port]/path")
        if len(self.secret.get_secret_value()) < 16:
            raise ValueError("url needs secret, of at least 16 characters: receivers check the signature by it")
        return self
