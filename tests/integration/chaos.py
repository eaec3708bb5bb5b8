"""Random kills and pauses over many images: runs are stopped at random times until no work item waits.

    python -m tests.integration.chaos [KILLS] [IMAGES] [SEED] [sqlite | postgresql]

During the test the state is restored from an older backup; at the end it is lost and rebuilt.

Some stops kill the run alone, some its crop processes too. Some suspend them for three lease times while
another run takes over their work, then resume them. The last line is ``lost=0 duplicated=0 orphaned=0 kills=N
seed=S`` (N: stops of any kind); the exit status is 1 when a count is not 0. oracle.py does the counting.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import astuple
from pathlib import Path

import requests

from demo.server import DemoServer
from tests.integration.fork_server import ForkedRun, ForkServer, fork_server
from tests.integration.killing import POLL
from tests.integration.oracle import Place, Tally, books, boxes
from tests.integration.state_backup import PostgresState, SqliteState, state_of_kind

LEASE_S = 1.0
# The ways to stop a run, and the weight of each.
STOPS = {"kill": 4, "kill with its crop processes": 3, "pause": 1}


def environment(api: DemoServer, place: Place, server: str) -> dict[str, str]:
    """Return settings with short leases, so that a stopped run's batch is soon resumed."""
    return os.environ | {
        "PREFECT_API_URL": server,
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "CROPLINE_API__SOURCE": "chaos",
        "CROPLINE_API__URL": api.base_url,
        "CROPLINE_API__TOKEN": api.token,
        "CROPLINE_FETCH__ALLOW_LOOPBACK": "true",
        "CROPLINE_STORAGE__URL": place.output,
        "CROPLINE_STATE__URL": place.state,
        "CROPLINE_STATE__LEASE_S": str(LEASE_S),
        "CROPLINE_STATE__BACKOFF_S": "0.01",
        "CROPLINE_BATCH__IMAGES": "20",
    }


def stop_at_random(forks: ForkServer, settings: dict[str, str], chance: random.Random, longest_s: float) -> str | None:
    """Start a poll and stop it after a random time. Returns how; None when it had ended already."""
    (how,) = chance.choices(list(STOPS), list(STOPS.values()))
    run = forks.start(POLL, settings)
    try:
        run.wait(timeout=chance.uniform(0.1, longest_s))
    except subprocess.TimeoutExpired:
        if how == "pause":
            pause(forks, run, settings)
        else:
            run.send_signal(signal.SIGKILL, group=how != "kill")
        run.wait(timeout=300)
        return how
    return None


def pause(forks: ForkServer, run: ForkedRun, settings: dict[str, str]) -> None:
    """Suspend the run and its crop processes for three lease times, let another run work, and resume them meanwhile."""
    run.send_signal(signal.SIGSTOP, group=True)
    time.sleep(3 * LEASE_S)
    other = forks.start(POLL, settings)
    try:
        other.wait(timeout=10)  # longer only when the suspended run holds SQLite's lock
    except subprocess.TimeoutExpired:
        print("woken while the other run works", flush=True)
    run.send_signal(signal.SIGCONT, group=True)
    other.wait(timeout=300)


def finish(forks: ForkServer, settings: dict[str, str], place: Place) -> None:
    """Poll until a run ends without a stop and leaves nothing to do."""
    for _ in range(20):
        run = forks.start(POLL, settings)
        assert run.wait(timeout=600) == 0, run.stderr[-2000:]
        if place.query("SELECT count(*) FROM images WHERE state <> 'done'") == [(0,)]:
            return
        time.sleep(LEASE_S)  # until the last stopped run's lease ends


def chaos(
    kills: int,
    images: int,
    seed: int,
    server: str,
    forks: ForkServer,
    folder: Path,
    state: SqliteState | PostgresState,
    most_boxes: int | None = None,
) -> Tally:
    """Stop ``kills`` runs, finish, count; lose the state, finish, count again. ``most_boxes``: of a photo."""
    chance = random.Random(seed)
    print(f"seed={seed} kills={kills} images={images} on {state.url.partition(':')[0]}", flush=True)
    place = Place((folder / "output").as_uri(), state.url)
    photos = folder / "photos"
    with DemoServer(photos=max(1, images // 4), megapixels=0.2, boxes=most_boxes, cache_dir=photos, workers=1) as api:
        settings = environment(api, place, server)
        added = len(api.control.images())
        began = time.monotonic()
        finish(forks, settings, place)
        # Stops fall anywhere in a whole run. Each run that is not stopped updates how long one takes.
        longest_s = time.monotonic() - began
        stops: Counter[str | None] = Counter()
        backup, restored = None, False
        for turn in range(kills * 4):
            left = kills - stops.total() + stops[None]
            if left == 0:
                break
            done = kills - left
            if backup is None and done >= kills // 3:
                backup = state.backup()
            elif backup is not None and done >= 2 * kills // 3 and not restored:
                state.restore(backup)
                restored = True
                print("the state is restored from an older backup", flush=True)
            if added < images:  # new photos while runs die
                more = max(1, (images - added) // left)
                api.control.advance(photos=more)
                added += more
            began = time.monotonic()
            how = stop_at_random(forks, settings, chance, longest_s)
            stops[how] += 1
            if how is None:
                longest_s = time.monotonic() - began
            print(f"{turn}: {how or 'ended by itself'}", flush=True)
        finish(forks, settings, place)
        wanted = boxes(api.control.images())
        result = books(place).against_boxes(wanted)
        state.lose()
        finish(forks, settings, place)
        anew = books(place).against_boxes(wanted)
        print(f"after the state was restored: {result}; after it was lost: {anew}")
        result = worse(result, anew)
    print(f"{added} images, a whole run took {longest_s:.1f} s at last, {dict(stops)}, unfinished={result.unfinished}")
    print(f"{result} kills={stops.total() - stops[None]} seed={seed}", flush=True)
    return result


def worse(one: Tally, other: Tally) -> Tally:
    """Return the larger of each count."""
    return Tally(*(max(pair) for pair in zip(astuple(one), astuple(other), strict=True)))


def main() -> bool:
    """Run the long form; return whether a count is not 0."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    given = [*sys.argv[1:], *("200", "500", str(int(time.time())), "sqlite")[len(sys.argv) - 1 :]]
    kills, images, seed = (int(value) for value in given[:3])
    with (
        tempfile.TemporaryDirectory() as name,
        prefect_test_harness(server_startup_timeout=120),
        fork_server() as forks,
    ):
        requests.get(PREFECT_API_URL.value() + "/health", timeout=10).raise_for_status()
        with state_of_kind(given[3], Path(name)) as state:
            result = chaos(kills, images, seed, PREFECT_API_URL.value(), forks, Path(name), state)
    return result != Tally()


if __name__ == "__main__":
    sys.exit(main())
