"""References to pictures in URLs, signed: a request reaches the store only for what a page of this process showed."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any

_FIELDS = ("source", "image_id", "key", "shard", "offset", "bytes", "format", "sha256")


class Signer:
    """Signs the place of a crop with a secret of this process."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, row: Mapping[str, Any]) -> str:
        """Return the reference of a row's crop, safe in a URL."""
        body = base64.urlsafe_b64encode(json.dumps([row[name] for name in _FIELDS]).encode()).decode().rstrip("=")
        return f"{body}.{self._seal(body)}"

    def read(self, reference: str) -> dict[str, Any] | None:
        """Return the row's fields, or None when this process did not sign the reference."""
        body, _, seal = reference.partition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(body).encode()):
            return None
        values = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return dict(zip(_FIELDS, values, strict=True))

    def _seal(self, body: str) -> str:
        return hmac.new(self._secret, body.encode(), "sha256").hexdigest()[:32]
