"""Settings of authentication: one group, for the image API and for photos."""

from __future__ import annotations

import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from cropline.config.group import Group
from cropline.core.crop_options import AuthOptions

AuthKind = Literal["", "bearer", "header", "query", "basic", "oauth2"]

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


class AuthSettings(Group):
    """How a client authenticates. The token is the token setting of the same group, except with basic and oauth2."""

    kind: AuthKind = Field(
        "", description="bearer, header, query, basic or oauth2; empty is bearer when there is a token"
    )
    token: SecretStr = Field(SecretStr(""), description="bearer, header, query: the token; empty is the group's token")
    header: str = Field("Authorization", description="header: its name, such as X-Api-Key")
    prefix: str = Field("", description="header: the word before the token, such as Token")
    param: str = Field("api_key", min_length=1, description="query: name of the parameter")
    user: str = Field("", description="basic: the user")
    password: SecretStr = Field(SecretStr(""), description="basic: the password")
    token_url: str = Field("", description="oauth2: where client credentials are exchanged for a token")
    client_id: SecretStr = Field(SecretStr(""), description="oauth2: the client's id")
    client_secret: SecretStr = Field(SecretStr(""), description="oauth2: the client's secret")
    scope: str = Field("", description="oauth2: the scope to request")

    @field_validator("header")
    @classmethod
    def _is_header_name(cls, value: str) -> str:
        return check_header_name(value)

    @field_validator("token", "password", "client_id", "client_secret", "prefix", "user")
    @classmethod
    def _is_header_value(cls, value: str | SecretStr) -> str | SecretStr:
        check_header_value(value if isinstance(value, str) else value.get_secret_value())
        return value

    @field_validator("token_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and not (parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc):
            raise ValueError("must be http(s)://host[:port]/path, without user")
        return value

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        needed = {
            "basic": {"user": self.user},
            "oauth2": {
                "token_url": self.token_url,
                "client_id": self.client_id.get_secret_value(),
                "client_secret": self.client_secret.get_secret_value(),
            },
        }.get(self.kind, {})
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise ValueError(f"kind {self.kind} needs {', '.join(missing)}")
        return self

    @property
    def options(self) -> AuthOptions:
        """The settings as plain values."""
        return AuthOptions(
            kind=self.kind,
            token=self.token.get_secret_value(),
            header=self.header,
            prefix=self.prefix,
            param=self.param,
            user=self.user,
            password=self.password.get_secret_value(),
            token_url=self.token_url,
            client_id=self.client_id.get_secret_value(),
            client_secret=self.client_secret.get_secret_value(),
            scope=self.scope,
        )


def check_headers(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """Return the headers. Raise ValueError for a name or a value that no header can have."""
    for name, secret in value.items():
        check_header_name(name)
        check_header_value(secret.get_secret_value())
    return value


def check_header_name(name: str) -> str:
    """Raise ValueError when a header cannot have this name."""
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("not the name of a header, such as X-Api-Key")
    return name


def check_header_value(value: str) -> str:
    """Raise ValueError, which does not quote the value, when a header cannot have it."""
    if not value.isascii() or not (value.isprintable() or not value) or value != value.strip():
        raise ValueError("must be printable ASCII without blanks at its ends")
    return value
