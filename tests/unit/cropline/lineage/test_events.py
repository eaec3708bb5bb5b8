"""Lineage events: valid by the official schemas, stable, free of secrets, and with the right datasets."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pyarrow as pa
import pytest
from pydantic import SecretStr

from cropline.catalogue import CATALOGUE
from cropline.config.engine import EngineKind
from cropline.config.lineage import LineageSettings
from cropline.config.settings import ApiSettings, EngineSettings, Settings
from cropline.config.state import StateSettings
from cropline.config.storage import StorageSettings
from cropline.core.schemas import MANIFEST, STORES
from cropline.core.store_spec import StoreSpec
from cropline.lineage import Event, EventBuilder, RunContext, abort_of, event_id, facets, run_event, run_id
from cropline.lineage.columns import OF_THE_RUN
from cropline.lineage.datasets import state_table, stored
from cropline.lineage.erasure import ERASURE, ErasureTotals, erasure_began, erasure_ended
from cropline.lineage.metrics import column_metrics
from tests.unit.cropline.lineage.lineage_spec import facets_of, needs_spec, problems

CANARY = "CANARY-7f3a"
START = datetime(2026, 11, 22, 8, 40, tzinfo=UTC)
END = START + timedelta(seconds=31)

CONTEXT = RunContext(
    flow_run_id="0e4c2d1e-6b7a-4a38-8f0a-0d3f7d9d2a11",
    flow_name="poll",
    run_name="poll 2026-11-22 08:40 UTC",
    deployment="poll",
    started_at=START,
    nominal_time=START - timedelta(seconds=2),
    engine="native",
    engine_version="",
    prefect_url="http://127.0.0.1:4200/runs/flow-run/0e4c2d1e-6b7a-4a38-8f0a-0d3f7d9d2a11",
)


@dataclass(frozen=True)
class Outcome:
    name: str
    severity: str
    column: str | None
    evaluated: int
    unexpected: int
    success: bool
    description: str


OUTCOMES = [
    Outcome("columns_are_the_manifest's", "critical", None, 1, 0, True, "has its columns"),
    Outcome("url_is_https", "warning", "url", 100, 3, False, "urls are https"),
    Outcome("box_area", "info", "box_area_of_a_derived_frame", 100, 3, False, "boxes are not tiny"),
]


METRICS = {
    "url": {"nullCount": 1, "distinctCount": 99},
    "boxes": {"nullCount": 0, "count": 100, "sum": 812.0, "min": 0, "max": 40},
}


def settings(tmp_path: Path, **groups: Any) -> Settings:
    given: dict[str, Any] = {
        "api": ApiSettings(url="https://api.example.test:8443/base"),
        "state": StateSettings(
            url=SecretStr(f"postgresql+psycopg://u:{CANARY}@db.example.test/crops?password={CANARY}")
        ),
        "storage": StorageSettings(url="s3://bucket/some/prefix"),
        "engine": EngineSettings(stores="stores/stores.parquet"),
        "lineage": LineageSettings(transport="none"),
    }
    return Settings(_env_file=None, **(given | groups))


def every_event(tmp_path: Path, **groups: Any) -> list[Event]:
    event_builder = EventBuilder(settings(tmp_path, **groups), CONTEXT)
    fail = f"cannot reach https://u:{CANARY}@h/p?X-Amz-Signature={CANARY}\nAuthorization: Bearer {CANARY}"
    process = EventBuilder(
        settings(tmp_path, **groups), replace(CONTEXT, flow_name="process", nominal_time=None, deployment=None)
    )
    return [
        *event_builder.began(),
        *event_builder.validated(
            END, started_at=START, manifest="manifests/cameras/1.parquet", rows=100, outcomes=OUTCOMES, quarantined=3, quarantine="quarantine/cameras/1.parquet", columns=METRICS
        ),
        *event_builder.validated(END, started_at=START, manifest="manifests/cameras/2.parquet", rows=9, outcomes=OUTCOMES, quarantined=9, error=fail),
        *event_builder.cropped(
            END, started_at=START, batch_id="b-1", attempt=2, images=5, boxes=40, written=30, failed=6, skipped=4, catalogue_version=1, crop_bytes=12345
        ),
        *event_builder.cropped(END, started_at=START, batch_id="b-2", attempt=1, images=5, boxes=0, written=0, failed=0, skipped=0, catalogue_version=7, superseded=2),
        *event_builder.crop_failed(END, started_at=START, batch_id="b-3", attempt=1, error=fail),
        *event_builder.crop_failed(END, started_at=START, batch_id="b-4", attempt=1, error=fail, kind="ABORT"),
        *event_builder.validate_failed(END, started_at=START, manifest="manifests/cameras/3.parquet", error=fail),
        *event_builder.maintained(END, started_at=START, catalogue_version=9, changed=True),
        *event_builder.maintained(END, started_at=START, catalogue_version=None, changed=False, error=fail),
        *event_builder.ended(END, polled=100, landed=100, manifest="manifests/cameras/1.parquet"),
        *event_builder.ended(END, kind="FAIL", error=fail),
        *event_builder.ended(END, kind="ABORT", error=fail),
        *process.began(),
        abort_of(event_builder.began()[0], END, fail),
        *process.ended(END),
        erasure_began(settings(tmp_path, **groups), "e-1", START),
        erasure_ended(settings(tmp_path, **groups), "e-1", START, END, ErasureTotals(2, 70, 90, 12)),
        erasure_ended(settings(tmp_path, **groups), "e-2", START, END, ErasureTotals(2, 0, 0, None)),
    ]  # fmt: skip


def client_problems(event: dict[str, Any]) -> list[str]:
    from tests.unit.cropline.lineage import lineage_client  # its import takes longer than all tests here

    return lineage_client.client_problems(event)


def test_every_event_is_one_of_the_official_client(tmp_path: Path) -> None:
    for event in every_event(tmp_path):
        assert client_problems(event) == [], json.dumps(event, indent=1)


def test_the_client_refuses_every_added_fault(tmp_path: Path) -> None:
    """This oracle can fail too."""
    spoilt = _spoilt(tmp_path)
    assert [bool(client_problems(one)) for one in spoilt] == [True] * len(spoilt)


@needs_spec
def test_every_event_is_valid_by_the_official_schemas(tmp_path: Path) -> None:
    for event in every_event(tmp_path):
        assert problems(event) == [], json.dumps(event, indent=1)


@needs_spec
def test_the_schema_check_finds_every_added_fault(tmp_path: Path) -> None:
    """The oracle can fail: it names each fault that is added to an event."""
    spoilt = _spoilt(tmp_path)
    assert [bool(problems(one)) for one in spoilt] == [True] * len(spoilt)


def _spoilt(folder: Path) -> list[dict[str, Any]]:
    event = EventBuilder(settings(folder), CONTEXT).began()[0]
    job = event["job"]
    return [
        event | {"eventTime": "yesterday"},
        event | {"run": event["run"] | {"runId": "7"}},
        event | {"eventType": "BEGIN"},
        event | {"job": job | {"facets": {"jobType": facets.facet("JobTypeJobFacet", processingType="BATCH")}}},
        event | {"job": job | {"facets": {"jobtype": facets.job_type("FLOW")}}},
    ]


@needs_spec
def test_every_facet_that_we_can_build_occurs_in_an_event(tmp_path: Path) -> None:
    """The schema test would prove nothing about a missing one. sourceCodeLocation needs an installation from git."""
    seen = {facet["_schemaURL"].rpartition("/")[2] for event in every_event(tmp_path) for _, facet in facets_of(event)}
    assert seen == set(facets._VERSIONS) - {"SourceCodeLocationJobFacet"}
    event = EventBuilder(settings(tmp_path), CONTEXT).began()[0]
    event["job"]["facets"]["sourceCodeLocation"] = facets.source_location("https://git.example.test/x.git", "0" * 40)
    assert problems(event) == []


def test_facets_are_of_the_versions_that_the_installed_openlineage_knows() -> None:
    """A second oracle, which fails when the library's versions move on."""
    import pkgutil
    from importlib import import_module

    from openlineage.client import generated

    theirs = {}
    for module in pkgutil.iter_modules(generated.__path__):
        for name, kind in inspect.getmembers(
            import_module(f"openlineage.client.generated.{module.name}"), inspect.isclass
        ):
            if hasattr(kind, "_get_schema"):
                theirs[name] = kind._get_schema()
    for name in facets._VERSIONS:
        assert facets.facet(name)["_schemaURL"] == theirs[name], name


def test_no_secret_is_in_any_event(tmp_path: Path) -> None:
    lineage = LineageSettings(transport="http", url="http://c.example.test", token=SecretStr(CANARY))
    events = every_event(tmp_path, lineage=lineage)
    assert CANARY not in json.dumps(events)
    told = [
        event["run"]["facets"]["errorMessage"]["message"]
        for event in events
        if "errorMessage" in event["run"]["facets"]
    ]
    assert set(told) == {"cannot reach https://***@h/p?*** Authorization: *** ***"}
    assert len(told) == 8


def test_texts_from_outside_are_scrubbed_too(tmp_path: Path) -> None:
    signed = f"https://u:{CANARY}@h.test/p?sig={CANARY}"
    context = replace(CONTEXT, run_name=f"poll {signed}", prefect_url=signed, deployment=f"token={CANARY}")
    outcomes = [replace(OUTCOMES[1], description=f"urls like {signed}")]
    event_builder = EventBuilder(settings(tmp_path, lineage=LineageSettings(namespace=f"ns {signed}")), context)
    events = event_builder.validated(
        END, started_at=START, manifest=f"m?{signed}", rows=1, outcomes=outcomes, quarantined=1
    )
    assert CANARY not in json.dumps([*event_builder.began(), *events])
    assert "https://***@h.test/p?***" in json.dumps(events)


def test_an_event_is_the_same_when_it_is_built_again(tmp_path: Path) -> None:
    assert every_event(tmp_path) == every_event(tmp_path)
    ids = {event_id(event) for event in EventBuilder(settings(tmp_path), CONTEXT).began()}
    assert ids == {
        event_id(event) for event in EventBuilder(settings(tmp_path), replace(CONTEXT, run_name="x")).began()
    }


def test_run_ids_differ_for_flow_runs_jobs_and_batches() -> None:
    parts = [
        ("run-1", "cropline.crop", "b1"),
        ("run-1", "cropline.crop", "b2"),
        ("run-1", "cropline.validate", "b1"),
        ("run-2", "cropline.crop", "b1"),
    ]
    ids = [run_id(*part) for part in parts]
    assert len(set(ids)) == 4
    assert all(UUID(one).version == 5 for one in ids)
    assert run_id("run-1", "cropline.crop", "b1") == "2d4b7f82-cd63-5ed7-aef0-1375ea88c24f", (
        "a changed id breaks every collector's history"
    )


def test_a_run_has_one_event_id_for_its_end_whatever_the_end(tmp_path: Path) -> None:
    event_builder = EventBuilder(settings(tmp_path), CONTEXT)
    ends = [
        event_builder.ended(END)[0],
        event_builder.ended(END, kind="FAIL", error="x")[0],
        event_builder.ended(END, kind="ABORT", error="x")[0],
    ]
    assert len({event_id(event) for event in ends}) == 1
    assert event_id(event_builder.began()[0]) != event_id(ends[0])


def test_the_end_event_of_a_killed_run_can_be_built_from_its_start(tmp_path: Path) -> None:
    event_builder = EventBuilder(settings(tmp_path), CONTEXT)
    start = event_builder.began()[0]
    told = abort_of(start, END, f"killed; Bearer {CANARY}")
    assert start == event_builder.began()[0], "the START is left as it was"
    assert (told["eventType"], told["eventTime"], told["run"]["runId"]) == (
        "ABORT",
        "2026-11-22T08:40:31.000000Z",
        start["run"]["runId"],
    )
    assert told["run"]["facets"]["errorMessage"]["message"] == "killed; Bearer ***"
    assert event_id(told) == event_id(event_builder.ended(END)[0]), (
        "should it end after all, the outbox keeps the first end only"
    )


def test_steps_have_the_flow_as_parent_and_root(tmp_path: Path) -> None:
    events = every_event(tmp_path)
    flow = events[0]
    assert "parent" not in flow["run"]["facets"]
    steps = [event for event in events if event["job"]["name"] not in ("cropline.poll", "cropline.process", ERASURE)]
    assert len(steps) == 18
    for event in steps:
        parent = event["run"]["facets"]["parent"]
        assert parent["run"]["runId"] == parent["root"]["run"]["runId"] == flow["run"]["runId"] != event["run"]["runId"]
        assert parent["job"] == parent["root"]["job"] == {"namespace": "cropline", "name": "cropline.poll"}


def test_a_run_event_has_its_engine_time_and_prefect_run(tmp_path: Path) -> None:
    import duckdb
    import fugue
    import pyspark

    versions = {"native": fugue.__version__, "duckdb": duckdb.__version__, "spark": pyspark.__version__}
    for engine, version in versions.items():
        run = EventBuilder(settings(tmp_path), replace(CONTEXT, engine=engine)).began()[0]["run"]["facets"]
        assert (run["processing_engine"]["name"], run["processing_engine"]["version"]) == (engine, version)
    assert (
        "processing_engine"
        not in EventBuilder(settings(tmp_path), replace(CONTEXT, engine="auto")).began()[0]["run"]["facets"]
    )
    assert run["nominalTime"]["nominalStartTime"] == "2026-11-22T08:39:58.000000Z"
    found = {tag["key"]: tag["value"] for tag in run["tags"]["tags"]}
    assert found["prefect.flow_run_id"] == CONTEXT.flow_run_id
    assert found["prefect.deployment"] == "poll"


def test_times_are_utc_and_need_a_zone() -> None:
    at = datetime(2026, 11, 22, 10, 40, tzinfo=timezone(timedelta(hours=2)))
    assert run_event("START", "cropline.poll", CONTEXT, at=at)["eventTime"] == "2026-11-22T08:40:00.000000Z"
    with pytest.raises(ValueError, match="time zone"):
        run_event("START", "cropline.poll", CONTEXT, at=at.replace(tzinfo=None))


def test_expectations_become_assertions_with_their_severity(tmp_path: Path) -> None:
    done = EventBuilder(settings(tmp_path), CONTEXT).validated(
        END, started_at=START, manifest="m", rows=100, outcomes=OUTCOMES, quarantined=0
    )[1]
    found = done["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(a["name"], a["success"], a["severity"], a["params"]["severity"], a.get("column")) for a in found] == [
        ("columns_are_the_manifest's", True, "error", "critical", None),
        ("url_is_https", False, "warn", "warning", "url"),
        ("box_area", False, "info", "info", None),
    ]
    assert found[1]["actual"] == "3 unexpected of 100"


def test_a_committed_batch_event_has_counts_version_and_change(tmp_path: Path) -> None:
    _, done = EventBuilder(settings(tmp_path), CONTEXT).cropped(
        END, started_at=START, batch_id="b-1", attempt=2, images=5, boxes=40, written=30, failed=6, skipped=4, catalogue_version=3, crop_bytes=999, superseded=1
    )  # fmt: skip
    crops, catalogue, works = done["outputs"]
    assert (crops["namespace"], crops["name"]) == ("s3://bucket", "some/prefix/crops")
    statistics = crops["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (30, 999, 30)
    assert catalogue["name"] == "some/prefix/catalogue"
    assert catalogue["outputFacets"]["outputStatistics"]["rowCount"] == 40
    assert catalogue["facets"]["version"]["datasetVersion"] == "3"
    assert catalogue["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "OVERWRITE"
    assert (works["namespace"], works["name"]) == ("postgres://db.example.test:5432", "crops.public.images")
    tags = {tag["key"]: tag["value"] for tag in done["run"]["facets"]["tags"]["tags"]}
    assert {key: tags[f"cropline.{key}"] for key in ("boxes", "written", "failed", "skipped", "batch", "attempt")} == {
        "boxes": "40", "written": "30", "failed": "6", "skipped": "4", "batch": "b-1", "attempt": "2"
    }  # fmt: skip


def test_column_lineage_covers_the_catalogue_and_names_only_columns_that_exist(tmp_path: Path) -> None:
    from cropline.state.tables import images, profiles

    _, done = EventBuilder(settings(tmp_path), CONTEXT).cropped(
        END,
        started_at=START,
        batch_id="b",
        attempt=1,
        images=1,
        boxes=1,
        written=1,
        failed=0,
        skipped=0,
        catalogue_version=1,
    )
    told = done["outputs"][1]["facets"]["columnLineage"]
    assert set(told["fields"]) == set(CATALOGUE.names) - set(OF_THE_RUN)
    columns = {
        "some/prefix/manifests": set(MANIFEST.names),
        "some/prefix/stores/stores.parquet": set(STORES.names),
        "crops.public.profiles": set(profiles.c.keys()),
        "crops.public.images": set(images.c.keys()),
    }
    read = [field for entry in told["fields"].values() for field in entry["inputFields"]] + told["dataset"]
    assert {field["name"] for field in read} == set(columns)
    assert [field for field in read if field["field"] not in columns[field["name"]]] == []
    assert {(d["namespace"], d["name"]) for d in done["inputs"]} == {(f["namespace"], f["name"]) for f in read}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("file:///data/out%20put", ("file", "/data/out put/crops")),
        ("s3://bucket", ("s3://bucket", "crops")),
        ("s3://bucket/a/b", ("s3://bucket", "a/b/crops")),
        ("memory:///", ("memory", "/crops")),
    ],
)
def test_storage_is_named_by_the_spec(url: str, name: tuple[str, str]) -> None:
    assert stored(StoreSpec(url), "crops") == name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:////data/state.db", ("sqlite:///data/state.db", "images")),
        ("sqlite:///state.db", (f"sqlite://{Path.cwd()}/state.db", "images")),
        ("postgresql+psycopg://u:p@db/crops", ("postgres://db:5432", "crops.public.images")),
        ("postgresql+psycopg://u:p@db:6000/crops?sslmode=require", ("postgres://db:6000", "crops.public.images")),
    ],
)
def test_the_state_is_named_by_the_spec(url: str, name: tuple[str, str]) -> None:
    given = Settings(_env_file=None, state=StateSettings(url=SecretStr(url)))
    assert state_table(given, "images") == name


def test_importing_lineage_imports_neither_openlineage_nor_http() -> None:
    code = "import sys, cropline.lineage; print([m for m in ('openlineage', 'requests', 'http.client', 'pyarrow', 'sqlalchemy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_metrics_are_counted_by_hand() -> None:
    rows = [
        {"image_id": "a", "version": "1", "url": "u", "width": 10, "boxes": [{"box_id": "x"}, {"box_id": "y"}]},
        {"image_id": "a", "version": None, "url": "v", "width": 2**62, "boxes": []},
        {"image_id": None, "version": None, "url": "u", "width": 2**62, "boxes": None},
    ]
    found = column_metrics(pa.Table.from_pylist(rows, schema=MANIFEST))
    assert found["image_id"] == {"nullCount": 1, "distinctCount": 1}
    assert found["version"] == {"nullCount": 2, "distinctCount": 1}
    assert found["url"] == {"nullCount": 0, "distinctCount": 2}
    assert found["width"] == {"nullCount": 0, "count": 3, "min": 10, "max": 2**62, "sum": 2.0**63 + 10}
    assert found["height"] == {"nullCount": 3, "count": 0}
    assert found["captured_at"] == {"nullCount": 3}
    assert found["boxes"] == {"nullCount": 1, "count": 2, "min": 0, "max": 2, "sum": 2.0}
    assert set(found) <= set(MANIFEST.names)


@pytest.mark.parametrize("engine", get_args(EngineKind))
def test_each_step_names_what_it_ran_on_whatever_the_settings_say(tmp_path: Path, engine: str) -> None:
    from importlib.metadata import PackageNotFoundError, version

    package = {
        "native": "fugue",
        "spark": "pyspark",
        "spark-connect": "pyspark",
        "emr-serverless": "pyspark",
        "auto": "fugue",
    }.get(engine, engine)
    try:
        expected = version(package)
    except PackageNotFoundError:  # an optional extra; the engine's error says what to install
        expected = "not installed"
    event_builder = EventBuilder(settings(tmp_path), replace(CONTEXT, engine=engine))
    cut = {
        "batch_id": "b",
        "attempt": 1,
        "images": 1,
        "boxes": 1,
        "written": 1,
        "failed": 0,
        "skipped": 0,
        "catalogue_version": 2,
    }
    told = [
        *event_builder.cropped(END, started_at=START, **cut, engine="native" if engine == "auto" else engine),
        *event_builder.validated(END, started_at=START, manifest="m", rows=1, outcomes=[], quarantined=0),
        *event_builder.maintained(END, started_at=START, catalogue_version=1, changed=False),
    ]
    found = [
        (e["run"]["facets"]["processing_engine"]["name"], e["run"]["facets"]["processing_engine"]["version"])
        for e in told
    ]
    own = "native" if engine == "auto" else engine
    assert found[::2] == [
        (own, expected),
        ("great-expectations", version("great-expectations")),
        ("deltalake", version("deltalake")),
    ]
    assert found[::2] == found[1::2], "START and end agree"


def test_maintenance_is_a_separate_run_under_its_flow(tmp_path: Path) -> None:
    event_builder = EventBuilder(settings(tmp_path), replace(CONTEXT, flow_name="maintain"))
    flow = [*event_builder.began(), *event_builder.ended(END)]
    step = event_builder.maintained(END, started_at=START, catalogue_version=1, changed=True)
    assert len({event_id(event) for event in [*flow, *step]}) == 4
    assert step[0]["run"]["facets"]["parent"]["run"]["runId"] == flow[0]["run"]["runId"]


def test_an_erasure_is_a_separate_run_with_its_changes(tmp_path: Path) -> None:
    given = settings(tmp_path)
    start, end = (
        erasure_began(given, "e-1", START),
        erasure_ended(given, "e-1", START, END, ErasureTotals(2, 70, 90, 12)),
    )
    assert start["run"]["runId"] == end["run"]["runId"]
    assert event_id(start) != event_id(end)
    assert "parent" not in end["run"]["facets"]
    assert [(data["namespace"], data["name"]) for data in end["outputs"]] == [
        ("s3://bucket", "some/prefix/catalogue"),
        ("s3://bucket", "some/prefix/crops"),
    ]
    changes = [data["facets"]["lifecycleStateChange"]["lifecycleStateChange"] for data in end["outputs"]]
    assert changes == ["OVERWRITE", "OVERWRITE"]
    assert end["outputs"][0]["facets"]["version"]["datasetVersion"] == "12"
    tags = {tag["key"]: tag["value"] for tag in end["run"]["facets"]["tags"]["tags"]}
    assert tags == {
        "cropline.erasure": "e-1",
        "cropline.images": "2",
        "cropline.rows": "70",
        "cropline.objects": "90",
    }
    nothing = erasure_ended(given, "e-2", START, END, ErasureTotals(2, 0, 0, None))
    assert not any("lifecycleStateChange" in data["facets"] for data in nothing["outputs"])


def test_the_schema_of_the_catalogue_describes_every_column() -> None:
    from cropline.catalogue import CATALOGUE
    from cropline.core.columns import CATALOGUE_COLUMNS
    from cropline.lineage import facets

    fields = facets.schema(CATALOGUE, CATALOGUE_COLUMNS)["fields"]
    assert {field["name"]: field["description"] for field in fields} == {
        name: column.comment for name, column in CATALOGUE_COLUMNS.items()
    }
