"""moto's S3 in this process, with creates that only one writer wins, as S3 promises."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

# It would write a line for each request, and pytest keeps every line.
logging.getLogger("werkzeug").setLevel(logging.ERROR)

_one_at_a_time = threading.RLock()


def _alone(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Answer one request at a time, whose body has been read before."""

    @functools.wraps(answer)
    def alone(*args: Any, **named: Any) -> Any:
        with _one_at_a_time:
            return answer(*args, **named)

    return alone


# moto looks whether an object exists and then writes it: of two creates at once, both could win.
S3Response._key_response = _alone(S3Response._key_response)  # type: ignore[method-assign]
S3Response._bucket_response = _alone(S3Response._bucket_response)  # type: ignore[method-assign]


@contextmanager
def s3_server() -> Iterator[str]:
    """Yield the URL of an empty S3 (and of every other service that moto has)."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
