"""Images that an API announces again: fresh URLs for photos that need one, and corrected metadata.

The API here signs its URLs as S3 does. A signature is valid until the test expires it; then the photo is
refused with 403, as by S3 and Google. Corrected metadata rewrites rows only. The oracle counts requests at
the API, objects and rows.
"""

from __future__ import annotations

import io
import json
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from cropline.backfill.request import Photos
from cropline.catalogue import Catalogue
from cropline.core import storage
from cropline.core.errors import NothingCameThrough
from cropline.erasure.erase import estimate
from cropline.erasure.selection import Selection
from cropline.state import State
from drift.baseline import read_baseline
from tests.integration.cameras import listening
from tests.integration.conftest import Workspace, artifact_text

NOW = datetime.now(UTC).replace(microsecond=0)
CANARY = "canary5e1f"


def _photo() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((160, 120)).convert("RGB").save(out, "JPEG")
    return out.getvalue()


class SigningApi:
    """Three photos of two boxes each. ``expire`` invalidates every earlier signature."""

    def __init__(self, at: socket.socket | None = None) -> None:
        """``at``: where to listen, one after the other; None: a free port."""
        self.changes: dict[str, dict[str, Any]] = {}
        self.signs = 0
        self.valid_from = 0
        self.down = False  # photos: 503
        self.frozen = False  # always returns the same, old signature
        self.fetched: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self._photo = _photo()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                status, body = outer.answer(url.path, {k: v[0] for k, v in parse_qs(url.query).items()})
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = at.dup() if at else listening()
        self.url = f"http://127.0.0.1:{self.server.socket.getsockname()[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def expire(self) -> None:
        self.valid_from = self.signs + 1

    def item(self, name: str) -> dict[str, Any]:
        if not self.frozen:
            self.signs += 1
        at = (NOW - timedelta(hours=3)).isoformat()
        score = self.changes.get(name, {}).get("score", 0.9)
        boxes = [
            {
                "id": f"b{n}",
                "xmin": 0.1,
                "ymin": 0.1 * n,
                "xmax": 0.6,
                "ymax": 0.1 * n + 0.4,
                "label": "cola",
                "score": score,
            }
            for n in (1, 2)
        ]
        signature = f"X-Amz-Signature={CANARY}&X-Amz-Key={self.signs}"
        item = {"id": name, "etag": f"e{name}", "url": f"{self.url}/p/{name}.jpg?{signature}", "captured_at": at,
                "updated_at": at, "store_id": "s1", "camera_id": "c1", "boxes": boxes}  # fmt: skip
        return item | {key: value for key, value in self.changes.get(name, {}).items() if key != "score"}

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        self.asked[path] += 1
        name = path.rsplit("/", 1)[1].removesuffix(".jpg")
        if path == "/v1/images":
            items = [self.item(name) for name in "abc"]
            return 200, json.dumps({"images": items, "next_cursor": None}).encode()
        if path.startswith("/v1/images/"):
            return (200, json.dumps({"images": [self.item(name)]}).encode()) if name in "abc" else (404, b"{}")
        if self.down:
            return 503, b""
        if int(query["X-Amz-Key"]) < self.valid_from:
            return 403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
        self.fetched[name] += 1
        return 200, self._photo


class SignedPolls:
    """A workspace after its first poll of the API, which is made once for a test file: at one place and one address."""

    def __init__(self, root: Path, at: socket.socket) -> None:
        self._root, self._at = root, at

    @contextmanager
    def api(self) -> Iterator[SigningApi]:
        """Yield the API as it is at first."""
        made = SigningApi(self._at)
        try:
            yield made
        finally:
            made.server.shutdown()
            made.server.server_close()

    def put_back(self, here: Workspace, api: SigningApi) -> Workspace:
        """Let both be as after the first poll."""
        here.folder, kept = self._root / "polled", self._root / "kept"
        here.set(STORAGE__URL=(here.folder / "output").as_uri(), STATE__URL=f"sqlite:///{here.folder / 'state.db'}")
        shutil.rmtree(here.folder, ignore_errors=True)
        if kept.exists():
            shutil.copytree(kept, here.folder)
            api.signs = 3
            api.fetched.update("abc")
            api.asked.update(["/v1/images", *(f"/p/{name}.jpg" for name in "abc")])
        else:
            here.folder.mkdir()
            here.poll()
            assert (api.signs, api.fetched, api.asked.total()) == (3, Counter("abc"), 4)
            shutil.copytree(here.folder, kept)
        return here


@pytest.fixture(scope="module")
def polls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedPolls]:
    with listening() as at:
        yield SignedPolls(tmp_path_factory.mktemp("signed"), at)


@pytest.fixture
def api(polls: SignedPolls) -> Iterator[SigningApi]:
    with polls.api() as served:
        yield served


@pytest.fixture
def here(workspace: Workspace, api: SigningApi) -> Workspace:
    workspace.set(API__URL=api.url, STATE__BACKOFF_S="0.001", ENGINE__PROCESSES="1", BATCH__MAX_BATCHES="1")
    return workspace


@pytest.fixture
def polled(polls: SignedPolls, here: Workspace, api: SigningApi) -> Workspace:
    return polls.put_back(here, api)


def manifests(here: Workspace) -> int:
    return len(storage.list_keys(here.settings.storage.spec, "manifests"))


def statuses(here: Workspace) -> Counter[tuple[str, str | None]]:
    return Counter((row["status"], row["reason"]) for row in here.rows())


def assert_nobody_was_told(here: Workspace) -> None:
    """Signatures are in manifests and nowhere else."""
    for file in here.folder.rglob("*"):
        if file.is_file() and "manifests" not in file.parts:
            assert CANARY.encode() not in file.read_bytes(), file


def test_an_expired_url_is_asked_for_again_within_the_batch(here: Workspace, api: SigningApi) -> None:
    """Only the refused photos are fetched again; each id has its own call where the API offers one."""
    here.set(API__ITEM_PATH="/v1/images/{image_id}")
    api.down = True
    assert "all 6 boxes failed; most of them http_5xx" in here.poll_in_vain()
    assert set(here.states().values()) == {"failed"}, "they will be tried again"
    api.down, api.valid_from = False, 2  # a's signature has expired; those of b and c are valid
    api.asked.clear()
    funnel = here.process()
    assert (funnel.written, funnel.failed, funnel.refreshed, funnel.not_refreshed) == (6, 0, 1, 0)
    assert api.fetched == {"a": 1, "b": 1, "c": 1}
    assert {path: n for path, n in api.asked.items() if path.startswith("/v1")} == {"/v1/images/a": 1}
    assert statuses(here) == {("written", None): 6}
    assert set(here.states().values()) == {"done"}
    assert_nobody_was_told(here)


def test_without_a_path_of_items_the_listing_is_read_again(here: Workspace, api: SigningApi) -> None:
    api.down = True
    here.poll_in_vain()
    api.down = False
    api.expire()
    api.asked.clear()
    funnel = here.process()
    assert (funnel.written, funnel.refreshed) == (6, 3)
    assert api.asked["/v1/images"] == 1


def test_a_photo_whose_url_cannot_be_refreshed_is_retried_and_never_done(here: Workspace, api: SigningApi) -> None:
    here.set(STATE__MAX_ATTEMPTS="2")
    api.frozen = True
    api.expire()
    assert "all 6 boxes failed; most of them url_expired 6" in here.poll_in_vain()
    assert "| not refreshed | 3 |" in artifact_text("poll-summary")
    assert statuses(here) == {("failed", "url_expired"): 6}
    assert set(here.states().values()) == {"failed"}
    with pytest.raises(NothingCameThrough, match="url_expired"):
        here.process()
    assert set(here.states().values()) == {"dead"}

    from flows.replay import replay

    api.frozen = False
    api.fetched.clear()
    before = api.asked["/p/a.jpg"]
    funnel = replay(ended=["dead"])
    assert (funnel.written, funnel.refreshed) == (6, 3)
    assert api.asked["/p/a.jpg"] == before + 1  # the old URL was not tried first
    assert statuses(here) == {("written", None): 6}
    assert_nobody_was_told(here)


def test_the_newest_announced_url_is_the_one_a_retry_uses(here: Workspace, api: SigningApi) -> None:
    """The API is asked once per poll; a new signature of a finished image is no work and lands nothing."""
    here.set(API__ITEM_PATH="/nowhere/{image_id}", STATE__BACKOFF_S="30", STATE__BACKOFF_CAP_S="30")
    api.down = True
    here.poll_in_vain()
    api.expire()
    funnel = here.poll()
    assert (funnel.landed, funnel.known, funnel.batches, manifests(here)) == (3, 3, 0, 2)
    hours = read_baseline(here.settings.storage.spec, "cams").hours
    assert sum(hours["images"].to_pylist()) == 3  # drift counts each photo once
    api.down = False
    with State.open(here.settings.state) as state:
        state.requeue(states=["failed"])
    funnel = here.process()
    assert (funnel.written, funnel.refreshed, funnel.not_refreshed) == (6, 0, 0)
    api.expire()
    funnel = here.poll()
    assert funnel.nothing_new
    assert (funnel.repeated, manifests(here)) == (3, 2)


def test_a_backfill_asks_for_fresh_urls_first(polled: Workspace, api: SigningApi) -> None:
    from flows.backfill import backfill

    here = polled
    api.expire()
    photos = Photos(since=NOW - timedelta(days=1))
    for announced, refreshed in (("manifests", 3), ("api", 0)):
        before = api.asked["/p/a.jpg"]
        funnel = backfill(photos=photos, announced=announced, mode="all")
        assert (funnel.written, funnel.failed, funnel.refreshed) == (6, 0, refreshed)
        assert api.asked["/p/a.jpg"] == before + 1
        api.expire()
    assert statuses(here) == {("written", None): 6}


CORRECTED = {"store_id": "s2", "camera_id": "c2", "captured_at": (NOW - timedelta(days=2)).isoformat(), "score": 0.1}


def test_a_correction_that_is_taken_back_arrives_too(polled: Workspace, api: SigningApi) -> None:
    """The item is as it was at first, and so is its updated_at: within the overlap it is known, but not the newest."""
    here = polled
    first = {row["store_id"] for row in here.rows() if row["image_id"] == "a"}
    api.changes["a"] = CORRECTED
    here.poll()
    del api.changes["a"]
    assert here.poll().corrected == 1
    assert {row["store_id"] for row in here.rows() if row["image_id"] == "a"} == first
    assert here.poll().nothing_new


@pytest.mark.parametrize("output", ["objects", "shards"])
def test_corrected_metadata_rewrites_rows_and_nothing_else(here: Workspace, api: SigningApi, output: str) -> None:
    here.set(PROFILES=json.dumps({"default": {"output": output}, "small": {"max_side": 32}}))
    here.poll()
    before, objects, fetched = here.rows(), here.objects(), api.fetched.copy()
    api.changes["a"] = CORRECTED
    api.expire()
    funnel = here.poll()
    assert (funnel.corrected, funnel.rewritten, funnel.batches, funnel.changed) == (2, 4, 1, 0)
    assert (api.fetched, here.objects()) == (fetched, objects)
    after = here.rows()
    told = ("store_id", "camera_id", "captured_at", "captured_date", "score", "manifest")
    own = ("batch_id", "attempt", "flow_run", "committed_at", "manifest_row", *told)
    same = [{name: value for name, value in row.items() if name not in own} for row in before]
    assert [{name: value for name, value in row.items() if name not in own} for row in after] == same
    moved = [row for row in after if row["image_id"] == "a"]
    taken = NOW - timedelta(days=2)
    assert {(r["store_id"], r["camera_id"], r["captured_at"], r["captured_date"], r["score"]) for r in moved} == {
        ("s2", "c2", taken, taken.date(), 0.1)
    }
    assert [row for row in after if row["image_id"] != "a"] == [row for row in before if row["image_id"] != "a"]
    # An erasure by store finds the right photos, in the catalogue and in the state.
    catalogue = Catalogue(here.settings.storage.spec)
    with State.open(here.settings.state) as state:
        for store, photos in (("s1", {"b", "c"}), ("s2", {"a"})):
            asked = Selection(stores=(store,))
            assert asked.in_catalogue(catalogue, "cams") == asked.in_state(state, "cams") == photos
    assert here.poll().nothing_new
    assert here.rows() == after


def test_an_erasure_before_corrected_rows_are_written_selects_by_the_state(
    polled: Workspace, api: SigningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = polled
    api.changes["a"] = CORRECTED
    with monkeypatch.context() as patch:
        patch.setattr(State, "has_work", lambda *_: False)
        assert here.poll().corrected == 1
    spec = here.settings.storage.spec
    with State.open(here.settings.state) as state:
        found = {store: estimate(spec, state, "cams", Selection(stores=(store,))).images for store in ("s1", "s2")}
    assert found == {"s1": 2, "s2": 1}


def test_corrected_metadata_reaches_rows_of_failures(here: Workspace, api: SigningApi) -> None:
    """Dead work items stay dead: their rows are rewritten, and the photo is not tried again."""
    here.set(STATE__MAX_ATTEMPTS="1")
    api.down = True
    here.poll_in_vain()
    assert set(here.states().values()) == {"dead"}
    asked = api.asked["/p/a.jpg"]
    api.changes["a"] = CORRECTED
    funnel = here.poll()
    assert (funnel.corrected, funnel.rewritten, funnel.failed) == (1, 2, 2)
    assert api.asked["/p/a.jpg"] == asked
    assert {(r["store_id"], r["reason"]) for r in here.rows() if r["image_id"] == "a"} == {("s2", "http_5xx")}
    assert set(here.states().values()) == {"dead"}


def test_a_backfill_of_what_is_missing_finds_corrected_metadata(polled: Workspace, api: SigningApi) -> None:
    from flows.backfill import backfill

    here = polled
    fetched = api.fetched.copy()
    api.changes["b"] = {"score": 0.2}
    photos = Photos(since=NOW - timedelta(days=5))
    estimated = backfill(photos=photos, announced="api", mode="missing", dry_run=True)
    assert [day.why for day in estimated.days] == [Counter({"metadata changed": 1})]
    funnel = backfill(photos=photos, announced="api", mode="missing")
    assert (funnel.corrected, funnel.rewritten, api.fetched) == (1, 2, fetched)
    assert {row["image_id"] for row in here.rows() if row["score"] == 0.2} == {"b"}


def test_a_replay_that_finds_nothing_says_what_other_options_would_find(here: Workspace, api: SigningApi) -> None:
    from flows.replay import replay

    here.set(FETCH__ALLOW_LOOPBACK="false", FETCH__ALLOWED_HOSTS='["127.0.0.1"]')
    assert "all 6 boxes failed; most of them forbidden_address" in here.poll_in_vain()
    estimated = replay(ended=["failed"], dry_run=True)
    assert estimated.wanted == 0
    assert estimated.note == (
        "nothing matches; 3 photos ended with permanent failures: --ended partial --reason forbidden_address"
    )
    assert replay(ended=["failed"]).hint == estimated.note
