"""Settings of traces: where the spans of runs go. The variables OTEL_... are not read."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from cropline.config.auth import check_headers
from cropline.config.group import Group
from cropline.core.hosts import check_authorities


class OtlpSettings(Group):
    """A collector of OpenTelemetry traces, spoken to by OTLP over HTTP. Empty: no traces."""

    url: str = Field("", description="address of the collector for traces, as http://collector:4318/v1/traces")
    headers: dict[str, SecretStr] = Field({}, description="headers of every request, a JSON object")
    ca_file: Path | None = Field(None, description="PEM file of certificate authorities that vouch for the collector")
    service: str = Field("cropline", min_length=1, description="service.name of the spans")
    timeout_s: float = Field(2, gt=0, le=60, description="the most time that the collector may cost a run at its end")

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        wrong = "must be http(s)://host[:port]/path, such as http://collector:4318/v1/traces, without user or query"
        try:
            parts = urlsplit(value)
            _ = parts.port  # raises on a port that is not a number
        except ValueError:
            raise ValueError(wrong) from None
        plain = parts.hostname and "@" not in parts.netloc and not parts.query and not parts.fragment
        if value and not (parts.scheme in ("http", "https") and plain and parts.path.strip("/")):
            raise ValueError(wrong)
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        return check_headers(value)

    @field_validator("ca_file")
    @classmethod
    def _is_pem(cls, value: Path | None) -> Path | None:
        if value is not None:
            check_authorities(value)
        return value

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        if self.url and not _is_installed():
            raise ValueError("url needs opentelemetry: install cropline[otlp]")
        return self


def _is_installed() -> bool:
    try:
        return (
            find_spec("opentelemetry.exporter.otlp.proto.http") is not None
            and find_spec("opentelemetry.sdk") is not None
        )
    except ModuleNotFoundError:  # of a package above it
        return False
