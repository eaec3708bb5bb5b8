"""Crop processes that hang, die, or lose their parent: one photo fails, the others are unaffected, nothing is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.config.settings import FetchSettings
from cropline.core.errors import EngineError, StaleLease
from cropline.core.store_spec import StoreSpec
from fugue_jobs.pool import crop_pool, idle_pools
from fugue_jobs.pool.assignment import Assignment
from fugue_jobs.pool.crop_pool import CropPool
from fugue_jobs.pool.idle_pools import borrow_pool, close_idle_pools, return_pool
from fugue_jobs.work import Box, ImageOutcome, ImageWork
from tests.photos import PhotoServer, drawn, encoded, photo_server
from tests.unit.fugue_jobs.fetching.fetch_servers import Exchange, certificates, ok, serving
from tests.unit.fugue_jobs.imaging.cutting import work_for
from tests.unit.fugue_jobs.imaging.forged import flat_bomb

LIMITS: dict[str, Any] = {"max_scans": 1_000_000, "decode_timeout_s": 60.0}


@pytest.fixture(scope="module")
def server() -> Iterator[PhotoServer]:
    with photo_server() as served:
        for number in range(12):
            served.photos[f"{number}.jpg"] = encoded(drawn(400, 300, seed=number))
        # Hundreds of seconds of decoding: no test waits for its end.
        served.photos["slow.jpg"] = flat_bomb(60_000)
        yield served


def assignment(folder: Path, **limits: Any) -> Assignment:
    return Assignment(
        StoreSpec(folder.as_uri()),
        FetchSettings(allow_loopback=True).options,
        PictureLimits(**(LIMITS | limits)).options,
    )


def works(server: PhotoServer, *names: str) -> list[ImageWork]:
    boxes = (Box("a", 0.1, 0.1, 0.5, 0.5), Box("b", 0.5, 0.5, 0.9, 0.9))
    return [work_for(*boxes, url=server.url(name), image_id=f"{i}-{name}") for i, name in enumerate(names)]


def endings(outcomes: list[tuple[int, ImageOutcome]]) -> list[list[str | None]]:
    """Return the reasons of each image's crops, in order."""
    return [[crop.reason for crop in outcome.crops] for _, outcome in sorted(outcomes)]


GOOD: list[str | None] = [None, None]


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.usefixtures("cold_crop_processes")
def test_every_image_ends_once_whatever_the_number_of_processes(server: PhotoServer, tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(12)] + ["missing.jpg"]
    for size in (1, 3):
        with CropPool(assignment(tmp_path), size) as pool:
            outcomes = list(pool.run(works(server, *names)))
            assert len(pool.pids) == size
        assert endings(outcomes) == [GOOD] * 12 + [["http_404"] * 2]


def test_no_more_processes_start_than_there_are_images(server: PhotoServer, tmp_path: Path) -> None:
    with CropPool(assignment(tmp_path), 8) as pool:
        assert endings(list(pool.run(works(server, "1.jpg", "2.jpg")))) == [GOOD] * 2
        assert len(pool.pids) == 2


def test_the_processes_share_the_capped_connections_to_a_host(tmp_path: Path) -> None:
    def slowly(exchange: Exchange) -> None:
        exchange.stop.wait(0.1)
        exchange.send(ok())

    with serving(slowly) as host:
        asked = [work_for(Box("a", 0, 0, 1, 1), url=host.url(f"/{n}"), image_id=str(n)) for n in range(12)]
        fetch = FetchSettings(allow_loopback=True, connections_per_host=2).options
        with CropPool(assignment(tmp_path)._replace(fetch=fetch), 2) as pool:
            assert len(list(pool.run(asked))) == 12
    assert host.most_open == 2


def test_an_idle_pool_holds_no_connection_to_a_host_that_limits_them(tmp_path: Path) -> None:
    with serving(ok()) as host:
        asked = [work_for(Box("a", 0, 0, 1, 1), url=host.url())]
        fetch = FetchSettings(allow_loopback=True, connections_per_host=2).options
        limited = assignment(tmp_path)._replace(fetch=fetch)
        pool = borrow_pool(limited, 1)
        for _ in range(2):
            assert len(list(pool.run(asked))) == 1
            return_pool(limited, 1, pool)
            end = time.monotonic() + 60
            while host.open_now:
                assert time.monotonic() < end
                time.sleep(0.01)
            assert borrow_pool(limited, 1) is pool
        pool.close()


def test_a_photo_whose_decoding_hangs_fails_alone(server: PhotoServer, tmp_path: Path) -> None:
    names = ["1.jpg", "slow.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]
    with CropPool(assignment(tmp_path, decode_timeout_s=1.0), 1) as pool:
        outcomes = list(pool.run(works(server, *names)))
        assert endings(outcomes) == [GOOD, ["decode_hung"] * 2, *[GOOD] * 4]
        assert len(pool.pids) == 1
    assert dict(outcomes)[1].crops[0].detail == "no progress in 1 s"


@pytest.mark.parametrize(
    ("profile", "limits"),
    [
        (Profile(), {60.0}),
        (Profile(format="png"), {60.0}),
        (Profile(format="avif", effort=10), {60.0, 110.0}),
        (Profile(format="avif", effort=10, max_side=20), {60.0}),
        (Profile(format="webp", lossless=True, effort=6), {60.0, 62.35}),
    ],
    ids=["jpeg", "png", "avif", "small avif", "webp"],
)
def test_a_slow_encoder_has_more_time_for_a_crop_and_a_decoder_has_not(
    server: PhotoServer, tmp_path: Path, profile: Profile, limits: set[float]
) -> None:
    seen = []

    class Watched(CropPool):
        def _handle(self, slot: Any, message: tuple[Any, ...]) -> Iterator[tuple[int, ImageOutcome]]:
            yield from super()._handle(slot, message)
            if message[0] == "decoding":
                seen.append(self._limit(slot))

    work = work_for(Box("a", 0.1, 0.1, 0.12, 0.12), profiles=(profile,), url=server.url("1.jpg"))
    with Watched(assignment(tmp_path), 1) as pool:
        assert endings(list(pool.run([work]))) == [[None]]
    assert seen[0] == 60.0, "the photo is not decoded yet"
    assert {round(limit, 6) for limit in seen} == limits


def test_a_pools_owner_can_end_it_while_photos_are_in_progress(server: PhotoServer, tmp_path: Path) -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        if len(asked) > 1 and pool.pids:
            raise StaleLease("another attempt has the batch")

    with CropPool(assignment(tmp_path), 1) as pool:
        with pytest.raises(StaleLease):
            list(pool.run(works(server, "slow.jpg"), check=check))
        assert pool.pids, "the photo was still being decoded"


class Killer(threading.Thread):
    """Sends a signal to each pool process that begins to decode the slow photo, that many times."""

    def __init__(self, pool: CropPool, kind: signal.Signals, times: int) -> None:
        super().__init__()
        self._pool, self._kind, self._times = pool, kind, times
        self.killed: list[int] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while len(self.killed) < self._times and not self.stop.is_set():
            for pid, image in self._pool.decoding.items():
                if pid not in self.killed and image.endswith("slow.jpg"):
                    os.kill(pid, self._kind)
                    self.killed.append(pid)
            time.sleep(0.005)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(signal.SIGSEGV, "decoder_died"), (signal.SIGABRT, "decoder_died"), (signal.SIGKILL, "decoder_killed")],
)
def test_a_photo_that_ends_its_process_twice_fails_alone(
    server: PhotoServer, tmp_path: Path, kind: signal.Signals, code: str
) -> None:
    names = ["1.jpg", "slow.jpg", "2.jpg", "3.jpg", "4.jpg"]
    with CropPool(assignment(tmp_path), 2) as pool:
        killer = Killer(pool, kind, times=2)
        killer.start()
        outcomes = list(pool.run(works(server, *names)))
        killer.stop.set()
        killer.join()
    assert endings(outcomes) == [GOOD, [code] * 2, *[GOOD] * 3]
    assert len(killer.killed) == 2


def test_a_process_that_is_asked_to_end_blames_no_photo(server: PhotoServer, tmp_path: Path) -> None:
    with CropPool(assignment(tmp_path, decode_timeout_s=2.0), 1) as pool:
        killer = Killer(pool, signal.SIGTERM, times=3)
        killer.start()
        outcomes = list(pool.run(works(server, "slow.jpg", "1.jpg")))
        killer.stop.set()
        killer.join()
    assert len(killer.killed) == 3
    assert endings(outcomes) == [["decode_hung"] * 2, GOOD], "it was tried after each of three ends, and hung at last"


def test_processes_that_cannot_work_are_an_error_and_not_a_loop(server: PhotoServer, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    authority, _ = certificates(tmp_path, "camera.test")
    # As on a worker that has another machine's settings without its files.
    fetch = FetchSettings(allow_loopback=True, ca_file=authority).options
    authority.unlink()
    for broken, says in (
        (assignment(blocked / "folder"), f"cannot use {(blocked / 'folder').as_uri()}: "),
        (assignment(tmp_path)._replace(fetch=fetch), f"CROPLINE_FETCH__CA_FILE: there is no file {authority} on "),
    ):
        with CropPool(broken, 1) as pool, pytest.raises(EngineError) as caught:
            list(pool.run(works(server, "1.jpg")))
        assert str(caught.value).startswith(f"a crop process cannot work: {says}")
        assert "\n" not in str(caught.value)


def test_large_photos_wait_for_each_other(server: PhotoServer, tmp_path: Path) -> None:
    # Each is larger than a process may decode unasked; all together exceed the memory limit.
    for number in range(4):
        server.photos[f"large{number}.png"] = encoded(drawn(5200, 3300, seed=number), "PNG", compress_level=1)
    with CropPool(assignment(tmp_path, max_pixels=17_500_000), 3) as pool:
        outcomes = list(pool.run(works(server, *[f"large{number}.png" for number in range(4)])))
    assert endings(outcomes) == [GOOD] * 4


def test_an_idle_pool_is_used_again_for_the_same_work_only(server: PhotoServer, tmp_path: Path) -> None:
    first = assignment(tmp_path)
    pool = borrow_pool(first, 1)
    list(pool.run(works(server, "1.jpg")))
    (pid,) = pool.pids
    return_pool(first, 1, pool)
    again = borrow_pool(first, 1)
    assert again.pids == [pid]
    return_pool(first, 1, again)
    other = borrow_pool(assignment(tmp_path, max_side=100), 1)
    assert other.pids == []
    assert not alive(pid)
    other.close()
    close_idle_pools()


PARENT = """
import sys, threading, time; sys.path.insert(0, "")
from pathlib import Path
from tests.unit.fugue_jobs.pool.test_crop_pool import assignment, works
from tests.photos import PhotoServer
from fugue_jobs.pool.crop_pool import CropPool
pool = CropPool(assignment(Path(sys.argv[1])), 2)
def tell():
    while len(pool.decoding) < 2:
        time.sleep(0.01)
    print(*pool.pids, flush=True)
threading.Thread(target=tell, daemon=True).start()
list(pool.run(works(PhotoServer(int(sys.argv[2])), *["slow.jpg"] * 4)))
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_its_parent(server: PhotoServer, tmp_path: Path, kind: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), str(server.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        parent.send_signal(kind)
        parent.wait(timeout=60)
    until(lambda: not any(alive(pid) for pid in pids))


def interrupted(line: int, do: Callable[[], Any], between: Callable[[], Any]) -> Any:
    """Return the result of ``do`` while another thread runs ``between`` before its line-th line of the pools' modules."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in (crop_pool.__file__, idle_pools.__file__):
            return None
        if event == "line":
            lines += 1
            if lines == line:
                between()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return do()
    finally:
        sys.settrace(before)


def test_a_pool_is_lent_to_one_thread_at_any_interleaving(tmp_path: Path) -> None:
    settings = assignment(tmp_path)
    for line in range(1, 20):
        return_pool(settings, 1, CropPool(settings, 1))
        others: list[CropPool] = []
        pool = interrupted(line, lambda: borrow_pool(settings, 1), lambda: others.append(borrow_pool(settings, 1)))  # noqa: B023
        assert pool not in others
        return_pool(settings, 1, pool)
        interrupted(line, close_idle_pools, close_idle_pools)


# The first four are the settings' and the API's: a process gets plain values, and a photo needs urllib3 alone.
HEAVY = {"pydantic", "pydantic_settings", "requests", "dlt"}
HEAVY |= {"pyarrow", "pandas", "numpy", "prefect", "fugue", "boto3", "sqlalchemy"}


@pytest.mark.usefixtures("cold_crop_processes")
def test_a_process_cuts_a_photo_from_a_host_without_the_heavy_libraries(
    server: PhotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asked.py").write_text(
        "import sys\n\ndef loaded(image, row):\n    return {'loaded': ' '.join(sys.modules)}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    step: Any = {"use": "asked:loaded", "columns": {"loaded": "string"}}
    asked = work_for(profiles=(Profile(steps=(step,)),), url=server.url("1.jpg"))
    with CropPool(assignment(tmp_path / "out"), 1) as pool:
        ((_, outcome),) = pool.run([asked])
    (crop,) = outcome.crops
    assert crop.status == "written"
    loaded = {name.partition(".")[0] for name in str((crop.values or {})["loaded"]).split()}
    assert {"urllib3", "PIL"} <= loaded
    assert loaded & HEAVY == set()


@pytest.mark.usefixtures("cold_crop_processes")
def test_a_module_in_the_working_folder_is_not_mistaken_for_the_librarys(
    server: PhotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "urllib3.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    with CropPool(assignment(tmp_path / "out"), 1) as pool:
        assert endings(list(pool.run(works(server, "1.jpg")))) == [GOOD]
