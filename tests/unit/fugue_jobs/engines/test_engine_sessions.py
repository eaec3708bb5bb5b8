"""Threads of a process share a cluster's session, and it ends once; the cluster is a fake."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings, FetchSettings
from cropline.core.errors import CroplineError, EngineError, NotReachable, SessionLost, StaleLease
from cropline.core.schemas import CLAIM, CROPS, STORES
from cropline.core.store_spec import StoreSpec
from fugue_jobs.engines import clusters, plan, run, sessions
from fugue_jobs.engines.manifests import IMAGE_ROWS
from fugue_jobs.engines.packages import installed
from tests.contract import jobs


class Cluster:
    """Counts its calls. Its job runs until ``go`` is set."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.lost = ""
        self.go = threading.Event()

    where = "the fake cluster at h:1"

    def check(self) -> None:
        """Pass: there is a worker."""

    def check_session(self) -> None:
        if self.lost:
            raise SessionLost(f"{self.where} {self.lost}")

    def give_up(self) -> None:
        self.calls.append("give up")

    def cancel(self) -> None:
        self.calls.append("cancel")

    def stop(self) -> None:
        self.calls.append("stop")

    def executors(self, _since: float) -> tuple[tuple[float, float], ...]:
        return ()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Cluster]]:
    started: list[Cluster] = []

    def start(_settings: EngineSettings, _most: int) -> Cluster:
        started.append(Cluster())
        return started[-1]

    def work(session: Any, *_: Any) -> pa.Table:
        assert session.cluster.go.wait(20)
        return CROPS.empty_table()

    monkeypatch.setattr(sessions, "_opened", start)
    monkeypatch.setattr(run, "_run_on", work)
    yield started
    run.stop_engines()


def _run(check: Callable[[], None] = lambda: None, **settings: Any) -> pa.Table:
    kind = EngineSettings.model_validate({"kind": "dask"} | settings)
    nothing = IMAGE_ROWS.empty_table(), CLAIM.empty_table(), STORES.empty_table()
    return run.run_crop_job(*nothing, jobs.job(Path("/nowhere")), kind, check=check)


def _lost() -> None:
    raise StaleLease("another attempt has the batch")


def test_a_lost_lease_ends_the_job_and_its_session_and_is_raised_as_it_is(opened: list[Cluster]) -> None:
    with pytest.raises(StaleLease):
        _run(_lost)
    assert opened[0].calls == ["cancel", "stop"]


def test_threads_share_a_session_and_one_that_fails_ends_it_once(opened: list[Cluster]) -> None:
    under_way = threading.Barrier(2)

    def check() -> None:
        under_way.wait(20)
        _lost()

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(_run, check) for _ in range(2)]
        errors = [run.exception() for run in runs]
    assert all(isinstance(error, CroplineError) for error in errors)
    assert [cluster.calls for cluster in opened] == [["cancel", "stop"]]


def test_a_session_that_a_thread_uses_outlives_another_settings_job(opened: list[Cluster]) -> None:
    with ThreadPoolExecutor(1) as threads:
        began = threading.Event()
        first = threads.submit(_run, began.set)
        assert began.wait(20)
        second = threading.Thread(target=_run, kwargs={"dask": {"grant_timeout_s": 77}})
        second.start()
        while len(opened) < 2:
            opened[0].go.wait(0.01)
        assert opened[0].calls == []
        opened[1].go.set()
        second.join(20)
        opened[0].go.set()
        assert first.result(20).num_rows == 0
    assert opened[0].calls == ["stop"]
    assert opened[1].calls == []


def test_any_other_failure_is_an_engine_error(opened: list[Cluster], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> pa.Table:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(run, "_run_on", fail)
    with pytest.raises(EngineError, match="out of memory"):
        _run()
    assert opened[0].calls == ["cancel", "stop"]


def _runs(opened: list[Cluster], monkeypatch: pytest.MonkeyPatch, work: Callable[[Cluster], None]) -> None:
    """Let jobs run ``work`` instead of waiting."""

    def run_on(session: Any, *_: Any) -> pa.Table:
        work(session.cluster)
        return CROPS.empty_table()

    monkeypatch.setattr(run, "_run_on", run_on)


def test_a_lost_session_is_replaced_before_the_batch_runs(
    opened: list[Cluster], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[Cluster] = []
    _runs(opened, monkeypatch, ran.append)
    _run()
    opened[0].lost = "was restarted"
    _run()
    assert ran == opened
    assert [cluster.calls for cluster in opened] == [["stop"], []]
    assert caplog.messages == ["the fake cluster at h:1 was restarted. The batch continues in a new session"]


def test_a_batch_whose_session_is_lost_runs_once_more_and_then_ends(
    opened: list[Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(cluster: Cluster) -> None:
        cluster.lost = "was restarted"
        raise ConnectionRefusedError("111")

    _runs(opened, monkeypatch, lose)
    with pytest.raises(EngineError) as told:
        _run()
    assert str(told.value) == (
        "the fake cluster at h:1 was restarted. This was the second try; the first ended with: the same"
    )
    assert len(opened) == 2
    assert run.stop_engines() is None
    assert [cluster.calls for cluster in opened] == [["stop"], ["stop"]]


def test_a_cluster_that_cannot_be_reached_again_is_named_with_what_was_lost(
    opened: list[Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    _runs(opened, monkeypatch, lambda cluster: None)
    _run(dask={"grant_timeout_s": 100})
    opened[0].lost = "is gone"

    def none_answers(*_: Any) -> Cluster:
        clock.append(clock[-1] + 40)
        raise NotReachable("no fake cluster answers at h:1")

    clock = [0.0]
    monkeypatch.setattr(sessions, "monotonic", lambda: clock[-1])
    monkeypatch.setattr(sessions, "RETRY_S", 0)
    monkeypatch.setattr(sessions, "_opened", none_answers)
    with pytest.raises(
        EngineError,
        match=r"^no fake cluster answers at h:1, also after 100 s \(CROPLINE_ENGINE__DASK__GRANT_TIMEOUT_S\)\. This was "
        r"the second try; the first ended with: the fake cluster at h:1 is gone$",
    ):
        _run(dask={"grant_timeout_s": 100})
    assert clock == [0, 40, 80, 120]


def test_a_batch_waits_for_its_cluster_to_come_back_and_then_runs_on_it(
    opened: list[Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Cluster] = []

    def lose_the_first(cluster: Cluster) -> None:
        ran.append(cluster)
        if cluster is opened[0]:
            cluster.lost = "was restarted"
            raise ConnectionRefusedError("111")

    answers = iter([False, False, True])
    open_it = sessions._opened

    def sometimes(*given: Any) -> Any:
        if opened and not next(answers):
            raise NotReachable("no fake cluster answers at h:1")
        return open_it(*given)

    _runs(opened, monkeypatch, lose_the_first)
    monkeypatch.setattr(sessions, "RETRY_S", 0)
    monkeypatch.setattr(sessions, "_opened", sometimes)
    asked: list[int] = []
    assert _run(lambda: asked.append(1)).num_rows == 0
    assert ran == opened
    assert len(opened) == 2
    assert len(asked) == 2


def test_a_lost_lease_ends_the_wait_for_a_cluster(opened: list[Cluster], monkeypatch: pytest.MonkeyPatch) -> None:
    _runs(opened, monkeypatch, lambda cluster: None)
    _run()
    opened[0].lost = "is gone"

    def none_answers(*_: Any) -> Cluster:
        raise NotReachable("no fake cluster answers at h:1")

    monkeypatch.setattr(sessions, "_opened", none_answers)
    with pytest.raises(StaleLease):
        _run(_lost)


def test_a_session_that_does_not_answer_is_lost(opened: list[Cluster], monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    _runs(opened, monkeypatch, lambda cluster: None)
    _run()
    monkeypatch.setattr(clusters, "ANSWER_S", 0.1)
    monkeypatch.setattr(opened[0], "check_session", never.wait)
    _run()
    never.set()
    assert [cluster.calls for cluster in opened] == [["give up", "stop"], []]


def test_threads_whose_session_is_lost_share_the_new_one(
    opened: list[Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2)

    def lose_the_first(cluster: Cluster) -> None:
        if cluster is opened[0]:
            together.wait(20)
            cluster.lost = "was restarted"
            raise ConnectionRefusedError("111")

    _runs(opened, monkeypatch, lose_the_first)
    with ThreadPoolExecutor(2) as threads:
        done = [threads.submit(_run) for _ in range(2)]
        assert [one.result(20).num_rows for one in done] == [0, 0]
    assert [cluster.calls for cluster in opened] == [["stop"], []]


def test_a_failure_on_a_session_that_works_is_not_repeated(
    opened: list[Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Cluster] = []

    def fail(cluster: Cluster) -> None:
        ran.append(cluster)
        raise RuntimeError("a bug")

    _runs(opened, monkeypatch, fail)
    with pytest.raises(EngineError, match="^the job failed on dask: a bug$"):
        _run()
    assert len(ran) == 1


def _batch(images: int, boxes: int = 2, profile: Profile | None = None) -> tuple[pa.Table, pa.Table, pa.Table]:
    rows = [jobs.image(n, f"http://h/{n}.jpg", [jobs.box("a", 0, 0, 1, 1)] * boxes) for n in range(images)]
    return jobs.images(rows), jobs.claims(rows, {"p": profile or Profile()}), jobs.stores()


class AskedOnce(Cluster):
    """A cluster whose worker lacks cropline-regions, and is asked by the first batch."""

    engine = None
    told = False

    def frame(self, _: Any) -> None:
        """Return nothing: no script runs."""

    def begin(self) -> None:
        self.calls.append("begin")

    def packages(self) -> dict[str, dict[str, str]]:
        if self.told:
            return {}
        self.told = True
        return {"w": {name: version for name, version in installed()().items() if name != "cropline-regions"}}

    def ship(self) -> None:
        self.calls.append("ship")


def test_a_lossless_batch_is_refused_before_its_photos_when_a_worker_cannot_copy_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[AskedOnce] = []

    def start(*_: Any) -> AskedOnce:
        opened.append(AskedOnce())
        return opened[-1]

    def crop(profile: Profile) -> None:
        run.run_crop_job(*_batch(1, 0, profile), jobs.job(Path("/nowhere")), EngineSettings(kind="dask"))

    monkeypatch.setattr(sessions, "_opened", start)
    monkeypatch.setattr(run, "_run", lambda *_: CROPS.empty_table())
    crop(Profile())
    # In the session that cut others, and in a new one.
    for calls in (["begin", "ship", "begin", "cancel", "stop"], ["begin", "cancel", "stop"]):
        with pytest.raises(
            EngineError, match=r"^the fake cluster at h:1: worker w lacks cropline-regions, which a lossless"
        ):
            crop(Profile(lossless=True))
        assert opened[-1].calls == calls
    assert len(opened) == 2


@pytest.mark.parametrize(
    ("engine", "limits"),
    [
        ({"kind": "spark", "master": "spark://h:7077"}, [1, 3, 6, 12]),
        ({"kind": "spark", "master": "local[2]"}, [1]),
        ({"kind": "dask"}, [1]),
    ],
    ids=["cluster", "local", "dask"],
)
def test_a_kept_session_is_replaced_when_the_backlog_needs_twice_its_executors(
    monkeypatch: pytest.MonkeyPatch, engine: dict[str, Any], limits: list[int]
) -> None:
    opened: list[AskedOnce] = []
    asked: list[int] = []

    def start(_settings: EngineSettings, most: int) -> AskedOnce:
        asked.append(most)
        opened.append(AskedOnce())
        return opened[-1]

    monkeypatch.setattr(sessions, "_opened", start)
    monkeypatch.setattr(run, "_run", lambda *_: CROPS.empty_table())
    for needed in (1, 1, 3, 5, 2, 6, 12):
        monkeypatch.setattr(plan, "most_executors", lambda *_, needed=needed: needed)
        run.run_crop_job(*_batch(1, 0), jobs.job(Path("/nowhere")), EngineSettings.model_validate(engine))
    assert asked == limits
    run.stop_engines()
    assert [cluster.calls.count("stop") for cluster in opened] == [1] * len(limits)


def test_a_large_batch_returns_in_pieces_and_a_lost_session_repeats_one_of_them(
    opened: list[Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []

    def run_on(session: Any, batch: Any, *_: Any) -> pa.Table:
        asked.append(batch.claimed["manifest_row"].to_pylist())
        assert batch.images["manifest_row"].to_pylist() == batch.counts["manifest_row"].to_pylist() == asked[-1]
        if len(asked) == 2:
            session.cluster.lost = "was restarted"
            raise ConnectionRefusedError("111")
        rows = [
            {"manifest": jobs.MANIFEST, "manifest_row": row, "box_index": box, "profile": "p"}
            for row in asked[-1]
            for box in (0, 1)
        ]
        return pa.Table.from_pylist(rows, schema=CROPS)

    monkeypatch.setattr(run, "_run_on", run_on)
    monkeypatch.setattr(plan.pieces, "__defaults__", (4,))
    crops = run.run_crop_job(*_batch(5), jobs.job(Path("/nowhere")), EngineSettings(kind="dask"))
    assert asked == [[0, 1], [2, 3], [2, 3], [4]]
    assert crops["manifest_row"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(("limit", "parts", "each"), [(None, 20, None), (8, 8, 1), (1, 1, 1), (45, 20, 2), (20, 20, 1)])
def test_the_parts_of_a_batch_share_its_connections(
    opened: list[Cluster], monkeypatch: pytest.MonkeyPatch, limit: int | None, parts: int, each: int | None
) -> None:
    seen: list[Any] = []

    def run_on(_session: Any, batch: Any, *_: Any) -> pa.Table:
        seen.append((batch.partitions, batch.part_of_job.fetch.connections_per_host, batch.part_of_job.processes))
        raise RuntimeError("enough")

    monkeypatch.setattr(run, "_run_on", run_on)
    job = jobs.job(Path("/nowhere"), processes=0, fetch=FetchSettings(connections_per_host=limit).options)
    with pytest.raises(EngineError, match="enough"):
        run.run_crop_job(*_batch(40), job, EngineSettings(kind="dask", partitions=20))
    assert seen == [(parts, each, 1)]


@pytest.mark.parametrize("landed", [True, False])
def test_of_many_stores_only_those_of_the_batch_are_sent(
    opened: list[Cluster], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, landed: bool
) -> None:
    seen: list[list[str]] = []

    def run_on(_session: Any, batch: Any, *_: Any) -> pa.Table:
        seen.append(batch.stores["store_id"].to_pylist())
        raise RuntimeError("enough")

    monkeypatch.setattr(run, "_run_on", run_on)
    monkeypatch.setattr(run, "_MOST_STORES", 3)
    ids = ["s7", None, "s7", "unknown", "s1"]
    boxes = [jobs.box("a", 0, 0, 1, 1)]
    rows = [jobs.image(n, f"http://h/{n}.jpg", boxes, store_id=store) for n, store in enumerate(ids)]
    images = jobs.landed(StoreSpec(tmp_path.as_uri()), rows) if landed else jobs.images(rows)
    script = tmp_path / "own.fsql"
    script.write_text("own")
    given = images, jobs.claims(rows, {"p": Profile()}), jobs.stores(*(f"s{n}" for n in range(9))), jobs.job(tmp_path)
    for own in (None, str(script)):
        with pytest.raises(EngineError, match="enough"):
            run.run_crop_job(*given, EngineSettings(kind="dask", script=own))
    assert seen == [["s1", "s7"], [f"s{n}" for n in range(9)]], "a script of the user may need them all"
