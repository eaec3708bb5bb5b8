"""A small in-memory server of Google Cloud Storage's XML API. It accepts only what the service account signed."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

EMAIL = "tests@example.iam.gserviceaccount.com"
_KEPT = ("content-type", "cache-control", "content-encoding", "content-disposition", "content-language")
_FAILED = (412, "PreconditionFailed")


@dataclass
class Blob:
    """A stored object."""

    data: bytes
    headers: dict[str, str]
    generation: int
    written: float = field(default_factory=time.time)

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class Gcs(ThreadingHTTPServer):
    """The server, its buckets, and the key of the account that may use them."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets: dict[str, dict[str, Blob]] = {}
        self.uploads: dict[str, tuple[dict[int, bytes], dict[str, str]]] = {}
        self.lock = threading.Lock()
        self.generations = itertools.count(time.time_ns() // 1_000)
        self.key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        self.url = f"http://127.0.0.1:{self.server_port}"

    @property
    def account(self) -> str:
        """Return the value of GOOGLE_SERVICE_ACCOUNT_KEY."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        named = {"type": "service_account", "client_email": EMAIL, "private_key_id": "k1", "client_id": "1"}
        return json.dumps(named | {"private_key": pem.decode()})

    def is_signed(self, message: bytes, signature: bytes) -> bool:
        try:
            self.key.public_key().verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True


@contextmanager
def gcs_server() -> Iterator[Gcs]:
    """Run the server for the duration of the block."""
    with Gcs() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: Gcs

    def log_message(self, *_: object) -> None:
        """Suppress the log."""

    def go(self) -> None:
        body = self._body()
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            self._check(parts.path, query)
            _, name, *rest = parts.path.split("/", 2)
            bucket = self.server.buckets.get(unquote(name))
            if bucket is None:
                raise _Refused(404, "NoSuchBucket")
            key = unquote(rest[0]) if rest else ""
            if not key:
                self._list(bucket, query)
            elif "uploads" in query or "uploadId" in query:
                self._upload(bucket, key, query, body)
            else:
                {"PUT": self._put, "DELETE": self._delete}.get(self.command, self._get)(bucket, key, body)
        except _Refused as refused:
            self._answer(refused.status, f"<Error><Code>{refused.code}</Code></Error>".encode())

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = go  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/xml", **(headers or {})}.items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _check(self, path: str, query: dict[str, str]) -> None:
        """Check a signed URL, or a token that the account signed for itself."""
        if "X-Goog-Signature" in query:
            self._check_url(path, query)
            return
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer":
            raise _Refused(401, "AuthenticationRequired")
        try:
            message, _, signature = token.rpartition(".")
            claims = json.loads(_base64(message.partition(".")[2]))
            good = self.server.is_signed(message.encode(), _base64(signature))
        except ValueError:
            raise _Refused(401, "AuthenticationRequired") from None
        if not good or claims["iss"] != EMAIL or claims["exp"] < time.time():
            raise _Refused(401, "AuthenticationRequired")

    def _check_url(self, path: str, query: dict[str, str]) -> None:
        """Check a GOOG4-RSA-SHA256 signature, as Google's documentation of V4 signatures describes it."""
        signed_at = datetime.strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if signed_at + timedelta(seconds=int(query["X-Goog-Expires"])) < datetime.now(UTC):
            raise _Refused(400, "ExpiredToken")
        scope = query["X-Goog-Credential"].partition("/")[2]
        names = query["X-Goog-SignedHeaders"].split(";")
        told = sorted((quote(k, safe=""), quote(v, safe="")) for k, v in query.items() if k != "X-Goog-Signature")
        canonical = "\n".join(
            [
                self.command,
                path,
                "&".join(f"{name}={value}" for name, value in told),
                *(f"{name}:{self.headers.get(name, '').strip()}" for name in names),
                "",
                ";".join(names),
                "UNSIGNED-PAYLOAD",
            ]
        )
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        message = "\n".join(["GOOG4-RSA-SHA256", query["X-Goog-Date"], scope, hashed])
        if not self.server.is_signed(message.encode(), bytes.fromhex(query["X-Goog-Signature"])):
            raise _Refused(403, "SignatureDoesNotMatch")

    def _told(self) -> dict[str, str]:
        return {
            name.lower(): value
            for name, value in self.headers.items()
            if name.lower() in _KEPT or name.lower().startswith("x-goog-meta-")
        }

    def _store(self, bucket: dict[str, Blob], key: str, data: bytes, headers: dict[str, str]) -> Blob:
        wanted = self.headers.get("x-goog-if-generation-match")
        with self.server.lock:
            found = bucket.get(key)
            if wanted is not None and int(wanted) != (found.generation if found else 0):
                raise _Refused(*_FAILED)
            blob = bucket[key] = Blob(data, headers, next(self.server.generations))
        return blob

    def _put(self, bucket: dict[str, Blob], key: str, body: bytes) -> None:
        headers, answer = self._told(), b""
        source = self.headers.get("x-goog-copy-source")
        if source is not None:
            name, _, other = unquote(source).lstrip("/").partition("/")
            copied = self._found(self.server.buckets.get(name, {}), other)
            body, headers, answer = copied.data, copied.headers, b"<CopyObjectResult></CopyObjectResult>"
        blob = self._store(bucket, key, body, headers)
        self._answer(200, answer, {"ETag": blob.etag, "x-goog-generation": str(blob.generation)})

    def _delete(self, bucket: dict[str, Blob], key: str, _: bytes) -> None:
        with self.server.lock:
            self._found(bucket, key)
            del bucket[key]
        self._answer(204)

    def _get(self, bucket: dict[str, Blob], key: str, _: bytes) -> None:
        blob = self._found(bucket, key)
        size = len(blob.data)
        told = {
            "Last-Modified": formatdate(blob.written, usegmt=True),
            "ETag": blob.etag,
            "x-goog-generation": str(blob.generation),
            "Content-Type": "application/octet-stream",
            **{("Content-Type" if name == "content-type" else name): value for name, value in blob.headers.items()},
        }
        if self.headers.get("If-Match") not in (None, "*", blob.etag):
            raise _Refused(*_FAILED)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if asked is None or not (asked[1] or asked[2]):
            return self._answer(200, blob.data, {**told, "Content-Length": str(size)})
        first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
        last = min(size - 1, int(asked[2])) if asked[1] and asked[2] else size - 1
        if first >= size or last < first:
            raise _Refused(416, "InvalidRange")
        return self._answer(206, blob.data[first : last + 1], {**told, "Content-Range": f"bytes {first}-{last}/{size}"})

    def _found(self, bucket: dict[str, Blob], key: str) -> Blob:
        blob = bucket.get(key)
        if blob is None:
            raise _Refused(404, "NoSuchKey")
        return blob

    def _upload(self, bucket: dict[str, Blob], key: str, query: dict[str, str], body: bytes) -> None:
        if "uploads" in query:
            upload = str(next(self.server.generations))
            self.server.uploads[upload] = ({}, self._told())
            told = f"<Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
            text = f"<InitiateMultipartUploadResult><Bucket>b</Bucket>{told}</InitiateMultipartUploadResult>"
            return self._answer(200, text.encode())
        if query["uploadId"] not in self.server.uploads:
            raise _Refused(404, "NoSuchUpload")
        parts, headers = self.server.uploads[query["uploadId"]]
        if self.command == "PUT":
            parts[int(query["partNumber"])] = body
            etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
            return self._answer(200, headers={"ETag": f'"{etag}"'})
        if self.command == "DELETE":
            del self.server.uploads[query["uploadId"]]
            return self._answer(204)
        numbers = [int(e.text or 0) for e in ElementTree.fromstring(body).iter() if e.tag.endswith("PartNumber")]
        blob = self._store(bucket, key, b"".join(parts[number] for number in numbers), headers)
        del self.server.uploads[query["uploadId"]]
        told = f"<Bucket>b</Bucket><Key>{escape(key)}</Key><ETag>{escape(blob.etag)}</ETag>"
        text = f"<CompleteMultipartUploadResult>{told}</CompleteMultipartUploadResult>"
        return self._answer(200, text.encode(), {"ETag": blob.etag, "x-goog-generation": str(blob.generation)})

    def _list(self, bucket: dict[str, Blob], query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = max(query.get("start-after", ""), query.get("continuation-token", ""))
        most = min(1_000, int(query.get("max-keys", "1000")))
        with self.server.lock:
            keys = sorted(key for key in bucket if key.startswith(prefix) and key > after)
            blobs = {key: bucket[key] for key in keys}
        shown: dict[str, str] = {}
        last, more = "", False
        for key in keys:
            rest = key[len(prefix) :]
            folder = f"{prefix}{rest.partition(delimiter)[0]}{delimiter}" if delimiter and delimiter in rest else ""
            if (folder or key) not in shown and len(shown) == most:
                more = True
                break
            shown[folder or key] = (
                f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
                if folder
                else _entry(key, blobs[key])
            )
            last = key
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if more else ""
        head = f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(shown)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
        space = "http://doc.s3.amazonaws.com/2006-03-01"
        text = f'<ListBucketResult xmlns="{space}">{head}{token}{"".join(shown.values())}</ListBucketResult>'
        self._answer(200, text.encode())


def _entry(key: str, blob: Blob) -> str:
    at = datetime.fromtimestamp(blob.written, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told: dict[str, Any] = {"Key": key, "LastModified": at, "ETag": blob.etag, "Size": len(blob.data)}
    return f"<Contents>{''.join(f'<{name}>{escape(str(value))}</{name}>' for name, value in told.items())}</Contents>"


def _base64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
