"""A small HTTP server for measurements without nginx: GET from one folder, PUT into another.

``python -m benchmarks.file_server PORT PHOTOS SINK``. Responses to PUT have an ETag, like S3's.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        path = Path(sys.argv[2]) / Path(self.path).name
        with path.open("rb") as body:
            self._answer(200, path.stat().st_size)
            self.wfile.flush()
            self.connection.sendfile(body)

    def do_PUT(self) -> None:
        path = Path(sys.argv[3]) / self.path.removeprefix("/sink/").split("?")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            out.write(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(200, 0)

    def _answer(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"0"')
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
