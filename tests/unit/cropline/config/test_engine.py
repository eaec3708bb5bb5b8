"""An invalid engine, address or conf gives one clear line before anything starts."""

from typing import Any

import pytest

from cropline.config.engine import EngineSettings
from cropline.config.settings import load_settings
from cropline.core.errors import SettingsError
from fugue_jobs.engines import plan

WRONG = [
    ({"KIND": "flink"}, "CROPLINE_ENGINE__KIND"),
    ({"MASTER": "10.0.0.1:7077"}, "CROPLINE_ENGINE__MASTER: must be local, local[N]"),
    ({"MASTER": "local[0]"}, "CROPLINE_ENGINE__MASTER"),
    ({"CONF": '{"executor.cores": "2"}'}, "'executor.cores' is not a Spark setting"),
    ({"CONF": '{"spark.master": "local"}'}, "have their own settings"),
    ({"CONF": "spark.a=1"}, "CROPLINE_ENGINE__CONF: not JSON"),
    ({"KIND": "spark-connect"}, "needs CROPLINE_ENGINE__CONNECT__URL"),
    ({"KIND": "auto", "AUTO__BURST": "spark-connect"}, "needs CROPLINE_ENGINE__CONNECT__URL"),
    ({"KIND": "emr-serverless"}, "needs CROPLINE_ENGINE__EMR__APPLICATION_ID"),
    ({"EMR__ROLE_ARN": "cropline"}, "CROPLINE_ENGINE__EMR__ROLE_ARN: must be arn:aws:iam::ACCOUNT:role/NAME"),
    ({"EMR__ENVIRONMENT": "/tmp/env.tar.gz"}, "CROPLINE_ENGINE__EMR__ENVIRONMENT: must be s3://bucket/name.tar.gz"),
    ({"CONNECT__URL": "http://host:15002"}, "must be sc://host"),
    ({"CONNECT__URL": "sc://host/;token=canary"}, "must not hold a token"),
    ({"DASK__SCHEDULER": "host:8786"}, "CROPLINE_ENGINE__DASK__SCHEDULER: must be tcp://host:port"),
    ({"RAY__ADDRESS": "http://host:6379"}, "CROPLINE_ENGINE__RAY__ADDRESS: must be host:port or ray://host:port"),
    ({"SPARK__MIN_EXECUTORS": "5", "SPARK__MAX_EXECUTORS": "2"}, "max_executors is below"),
    ({"SPARK__EXECUTORS": "5"}, "CROPLINE_ENGINE__SPARK__EXECUTORS: unknown setting"),
    (
        {"CONF": '{"spark.sql.shuffle.partitions": "many"}'},
        "spark.sql.shuffle.partitions must be a whole number of at least 1, not 'many'",
    ),
    (
        {"CONF": '{"spark.sql.execution.arrow.maxRecordsPerBatch": "0"}'},
        "spark.sql.execution.arrow.maxRecordsPerBatch must be a whole number of at least 1, not '0'",
    ),
]


@pytest.mark.parametrize(("values", "told"), WRONG, ids=[told for _, told in WRONG])
def test_a_wrong_engine_setting_is_told_by_its_name(
    values: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"CROPLINE_ENGINE__{name}", value)
    with pytest.raises(SettingsError) as failure:
        load_settings()
    assert told in str(failure.value)
    assert "canary" not in str(failure.value)


@pytest.mark.parametrize("kind", ["spark", "dask", "ray"])
def test_a_burst_goes_to_any_cluster(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROPLINE_ENGINE__KIND", "auto")
    monkeypatch.setenv("CROPLINE_ENGINE__AUTO__BURST", kind)
    engine = load_settings().engine
    assert plan.choose(plan.Cost(1, 1, 1.0), 10_000, engine.auto)[0] == kind


@pytest.mark.parametrize(
    "master", ["local", "local[*]", "local[4,2]", "spark://a:7077,b:7077", "yarn", "k8s://https://h"]
)
def test_masters_that_spark_knows_are_taken(master: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROPLINE_ENGINE__MASTER", master)
    assert load_settings().engine.master == master


def test_groups_are_frozen_and_secrets_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROPLINE_ENGINE__CONNECT__TOKEN", "canary")
    engine: Any = load_settings().engine
    assert "canary" not in repr(engine)
    with pytest.raises(ValueError, match="frozen"):
        engine.spark.idle_s = 1


@pytest.mark.parametrize(
    ("settings", "here"),
    [
        ({}, True),
        ({"kind": "duckdb"}, True),
        ({"kind": "auto"}, True),
        ({"kind": "spark"}, True),
        ({"kind": "spark", "master": "spark://head:7077"}, False),
        ({"kind": "spark", "master": "yarn"}, False),
        ({"kind": "spark-connect", "connect": {"url": "sc://head:15002"}}, False),
        ({"kind": "dask"}, True),
        ({"kind": "dask", "dask": {"scheduler": "tcp://head:8786"}}, False),
        ({"kind": "ray"}, True),
        ({"kind": "ray", "ray": {"address": "head:6379"}}, False),
    ],
)
def test_it_is_known_whether_this_machine_cuts(settings: dict[str, Any], here: bool) -> None:
    assert EngineSettings(**settings).cuts_here is here
