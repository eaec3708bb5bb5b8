"""The setting of an HTTP proxy. Its user and password make the whole of it a secret."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, SecretStr

from cropline.core.proxy import read_proxy


def _checked(value: SecretStr) -> SecretStr:
    read_proxy(value.get_secret_value())
    return value


ProxyUrl = Annotated[SecretStr, AfterValidator(_checked)]
