"""References to pictures in URLs, signed: a request reaches the store only for what a page of this process showed."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

CROP_FIELDS = ("source", "image_id", "key", "shard", "offset", "bytes", "format", "sha256")


class Signer:
    """Signs what a page shows of a row with a secret of this process. A reference is good for the fields it was made of."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, row: Mapping[str, Any], fields: Sequence[str] = CROP_FIELDS) -> str:
        """Return the reference of a row, by default of its crop; safe in a URL."""
        body = base64.urlsafe_b64encode(json.dumps([row[name] for name in fields]).encode()).decode().rstrip("=")
        return f"{body}.{self._seal(body, fields)}"

    def read(self, reference: str, fields: Sequence[str] = CROP_FIELDS) -> dict[str, Any] | None:
        """Return the row's fields, or None when this process did not sign the reference for them."""
        body, _, seal = reference.partition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(body, fields).encode()):
            return None
        values = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return dict(zip(fields, values, strict=True))

    def _seal(self, body: str, fields: Sequence[str]) -> str:
        return hmac.new(self._secret, f"{' '.join(fields)} {body}".encode(), "sha256").hexdigest()[:32]
