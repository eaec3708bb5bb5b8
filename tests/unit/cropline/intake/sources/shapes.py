"""Small APIs in the shapes of docs/your-api.md, with five photos each. Each refuses a request that it does not understand."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.cropline.intake.sources.listing_server import Answer

FIRST = datetime(2026, 4, 10, 8, tzinfo=UTC)
Query = dict[str, str]
Shape = Callable[[str, Query, dict[str, str], Any], Answer]
REFUSED: Answer = (400, {}, b"{}")


def iso(number: int) -> str:
    return (FIRST + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def told(body: Any, **headers: str) -> Answer:
    return 200, headers, json.dumps(body).encode()


def _since(text: str, count: int = 5) -> list[int]:
    since = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return [number for number in range(count) if FIRST + timedelta(days=number) >= since]


def cursor(path: str, query: Query, headers: dict[str, str], body: Any) -> Answer:
    if headers.get("X-Api-Key") != "secret-key":
        return 401, {}, b""
    start, limit = int(query.get("cursor", "n0")[1:]), int(query["limit"])
    box = {"ref": "b0", "class": "cola", "p": 0.9, "x": 10, "y": 20, "w": 30, "h": 40}
    rows = [
        {"uuid": f"p{n}", "hash": f"v{n}", "file": f"https://cdn.example.com/{n}.jpg", "taken": iso(n), "changed": iso(n),
         "shop": {"id": "S1"}, "camera": "c1", "detections": [box]}
        for n in _since(query["updated_after"])[start : start + limit]
    ]  # fmt: skip
    return told({"data": rows, "meta": {"next": f"n{start + limit}" if start + limit < 5 else None}})


def numbered(path: str, query: Query, headers: dict[str, str], body: Any) -> Answer:
    if headers.get("Authorization") != "Basic bWU6c2VjcmV0LWtleQ==":
        return 401, {}, b""
    page, limit = int(query["p"]), int(query["per_page"])
    times = {n: int((FIRST + timedelta(days=n)).timestamp() * 1000) for n in range(5)}
    rows = [
        {"id": n, "url": f"https://cdn.example.com/{n}.jpg", "captured_at": times[n], "updated_at": times[n],
         "boxes": [["10", "20", "40", "60"]]}
        for n in range(5) if times[n] >= int(query["after"])
    ]  # fmt: skip
    return told({"images": rows[page * limit : (page + 1) * limit]})


def search(path: str, query: Query, headers: dict[str, str], body: Any) -> Answer:
    if headers.get("Authorization") != "Bearer secret-key":
        return 401, {}, b""
    if query != {"tenant": "acme"} or set(body) != {"filter", "from", "size"} or type(body["from"]) is not int:
        return REFUSED
    found = _since(body["filter"]["changed"]["gte"])
    rows = [
        {"id": f"p{n}", "etag": f"v{n}", "url": f"https://cdn.example.com/{n}.jpg", "captured_at": iso(n), "updated_at": iso(n),
         "boxes": {"b0": {"label": "cola", "cx": 0.25, "cy": 0.4, "w": 0.3, "h": 0.4}}}
        for n in found[body["from"] : body["from"] + body["size"]]
    ]  # fmt: skip
    return told({"results": rows, "hits": len(found)})


def graphql(path: str, query: Query, headers: dict[str, str], body: Any) -> Answer:
    if headers.get("Authorization") != "Bearer secret-key":
        return told({"data": None, "errors": [{"message": "who are you"}]})
    if query or set(body) != {"query", "variables"} or "images" not in body["query"]:
        return REFUSED
    start, limit = int(body["variables"].get("after", "n0")[1:]), body["variables"]["n"]
    box = {"id": "b0", "label": "cola", "xmin": 0.1, "ymin": 0.2, "xmax": 0.4, "ymax": 0.6}
    rows = [
        {"id": f"p{n}", "etag": f"v{n}", "url": f"https://cdn.example.com/{n}.jpg", "capturedAt": iso(n), "updatedAt": iso(n),
         "boxes": [box]}
        for n in range(5)[start : start + limit]
    ]  # fmt: skip
    info = {"hasNextPage": start + limit < 5, "endCursor": f"n{start + limit}"}
    return told({"data": {"images": {"nodes": rows, "pageInfo": info}}})


def visits(path: str, query: Query, headers: dict[str, str], body: Any) -> Answer:
    if query.get("key") != "secret-key" or "updated_after" in query:
        return 401, {}, b""
    start, limit = int(query.get("after", "n0")[1:]), int(query.get("limit", "2"))
    region = {"id": "b0", "label": "cola", "points": [[10, 20], [40, 20], [40, 60]]}
    local = [f"{FIRST + timedelta(days=n, hours=2):%Y-%m-%d %H:%M:%S}" for n in range(5)]
    rows = [
        {"visit": f"v{n}", "store": {"id": f"S{n + 1}"}, "photos": [
            {"id": f"p{n}", "etag": f"v{n}", "path": f"Regal 1/{n}.jpg", "captured_at": local[n], "updated_at": local[n],
             "regions": [region]}]}
        for n in range(5)[start : start + limit]
    ]  # fmt: skip
    return told(
        {"visits": rows, "links": {"next": f"/v1/images?after=n{start + limit}" if start + limit < 5 else None}}
    )


def by_box(path: str, query: Query, headers: dict[str, str], body: Any) -> Answer:
    if headers.get("Authorization") != "Token secret-key" or (
        "updated_after" in query and len(query["updated_after"]) != 10
    ):
        return 401, {}, b""
    start, limit = int(query.get("at", "0")), int(query.get("limit", "3"))
    rows = [
        {"row": row, "photo": f"https://cdn.example.com/{row % 5}.jpg", "taken": iso(row % 5), "changed": iso(row % 5),
         "label": "cola", "xmin": 10 + row // 5, "ymin": 20, "xmax": 40 + row // 5, "ymax": 60}
        for row in range(10)[start : start + limit]
    ]  # fmt: skip
    more = (
        {"Link": f'</v1/images?at={start + limit}>; rel="next"'}
        if start + limit < 10
        else {"Link": '</v1/images>; rel="first"'}
    )
    return told(rows, **more)


SHAPES: tuple[Shape, ...] = (cursor, numbered, search, graphql, visits, by_box)
