"""The catalogue on S3 (moto's server): one commit wins each race, because the store supports conditional writes.

What holds on every kind of store is in tests/contract/stores/test_catalogue.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import boto3
import pytest

from cropline.catalogue import Appended, Catalogue
from cropline.core.errors import CatalogueError
from cropline.core.store_spec import StoreSpec
from tests.emulators.s3 import s3_server
from tests.integration.faulty_proxy import Fault, faulty_proxy
from tests.unit.cropline.catalogue.test_catalogue import append, crops, keys

SECRET = "CANARY-7f3a-secret"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def spec(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> StoreSpec:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    bucket = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    boto3.client("s3", endpoint_url=server).create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    return StoreSpec(f"s3://{bucket}/some/prefix", endpoint=server, region="eu-central-1")


def test_attempts_that_replace_at_once_leave_one_content(spec: StoreSpec) -> None:
    catalogue, superseding = Catalogue(spec), [("cameras", "old", "default")]
    append(catalogue, crops(["old"]), "batch-0")
    for round_ in range(2):
        start = Barrier(4)

        def run(attempt: int, batch: str = f"batch-{round_ + 1}", start: Barrier = start) -> Appended:
            start.wait()
            return append(catalogue, crops([f"{batch}-by-{attempt}"]), batch, attempt=attempt, superseding=superseding)

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(run, [1, 2, 3, 4]))
        winners = [n for n, result in enumerate(results, 1) if result.appended]
        assert len(winners) == 1
        expected = keys(crops([f"batch-{round_ + 1}-by-{winners[0]}"]))
        assert keys(catalogue.batch_rows(f"batch-{round_ + 1}")) == expected
    assert len(catalogue.rows()) == 2 * 2


def test_processes_that_append_at_once_lose_nothing(spec: StoreSpec) -> None:
    """The creation of the table is raced for too."""
    script = (
        "import sys; from tests.unit.cropline.catalogue.test_catalogue import *\n"
        "c = Catalogue(StoreSpec(sys.argv[1], sys.argv[2], sys.argv[3])); me = sys.argv[4]\n"
        "for n in range(2): append(c, crops([f'{me}-{n}'], boxes=1), f'batch-{me}-{n}')\n"
        "print(append(c, crops([f'shared-by-{me}'], boxes=1), 'shared').appended)\n"
    )
    command = [sys.executable, "-c", script, spec.url, str(spec.endpoint), str(spec.region)]
    running = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(3)]
    said = [process.communicate(timeout=200)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0] * 3
    assert Counter(said) == {"True": 1, "False": 2}
    own = keys(crops([f"{me}-{n}" for me in range(3) for n in range(2)], boxes=1))
    assert keys(Catalogue(spec).rows()) == own + keys(crops([f"shared-by-{said.index('True')}"], boxes=1))


def test_a_bucket_that_is_not_there_is_one_line_without_secrets(spec: StoreSpec) -> None:
    missing = Catalogue(StoreSpec("s3://no-such-bucket/prefix", spec.endpoint, spec.region))
    with pytest.raises(
        CatalogueError, match="cannot write the catalogue at s3://no-such-bucket/prefix/catalogue"
    ) as caught:
        append(missing, crops(["a"]), "batch-1")
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_credentials_are_one_clear_line(spec: StoreSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(CatalogueError, match="cannot use s3://.*: no credentials"):
        append(Catalogue(spec), crops(["a"]), "batch-1")


_REPLACED = (("cameras", "old", "default"),)


@pytest.mark.parametrize(
    ("fault", "superseding"),
    [
        # Each fault once, and the hard case in both ways.
        pytest.param("lost reply", (), id="lost reply-append"),
        pytest.param("lost reply", _REPLACED, id="lost reply-replace"),
        pytest.param("reset", _REPLACED, id="reset-replace"),
        pytest.param("503", (), id="503-append"),
        pytest.param("slow down", _REPLACED, id="slow down-replace"),
        pytest.param("reset", (), id="reset-append", marks=pytest.mark.slow),
        pytest.param("503", _REPLACED, id="503-replace", marks=pytest.mark.slow),
        pytest.param("slow down", (), id="slow down-append", marks=pytest.mark.slow),
    ],
)
def test_a_commit_that_meets_a_broken_store_is_there_once(
    server: str, spec: StoreSpec, fault: Fault, superseding: tuple[tuple[str, str, str], ...]
) -> None:
    """A lost reply is the hard case: the commit succeeded, and its writer gets a conflict."""
    with faulty_proxy(server) as proxy:
        catalogue = Catalogue(StoreSpec(spec.url, proxy.url, spec.region))
        append(catalogue, crops(["old"]), "batch-0")
        proxy.strike(fault, "PUT", "_delta_log/")
        append(catalogue, crops(["a"]), "batch-1", superseding=superseding)
        assert proxy.struck == 1
        again = append(catalogue, crops(["b"]), "batch-1", attempt=2)
    assert again.appended is False
    kept = Counter() if superseding else keys(crops(["old"]))
    assert keys(Catalogue(spec).rows()) == keys(crops(["a"])) + kept
    assert keys(Catalogue(spec).batch_rows("batch-1")) == keys(crops(["a"]))
