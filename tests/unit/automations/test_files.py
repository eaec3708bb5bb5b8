"""prefect.yaml and the automation files: shipped ones are valid; mistakes are reported before Prefect reads them."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.callables import parameter_schema

from automations.apply import read_file
from automations.deploy import deploy
from automations.environments import for_environment, refuse_other_pools
from automations.form import form_schema
from automations.prefect_yaml import check, deployments, for_sources, refuse_mistakes
from cropline.config.settings import Settings
from cropline.core.errors import SettingsError
from tasks.rate_limit import limit_of

ROOT = Path(__file__).resolve().parents[3]
PREFECT_YAML = ROOT / "prefect.yaml"
BLOCK = "b3514963-02b1-47a5-93d1-6eeb131041cb"


def test_the_shipped_file_has_no_mistake() -> None:
    assert check(PREFECT_YAML) == []


def test_every_deployment_has_its_flows_name_and_a_runbook() -> None:
    names = []
    for entry in deployments(PREFECT_YAML):
        module, _, name = entry["entrypoint"].partition(":")
        flow = getattr(import_module(module), name)
        assert isinstance(flow, Flow)
        assert flow.name == entry["name"] == name == module.removeprefix("flows.")
        assert "**When it fails.**" in str(flow.description), f"{name}: its docstring is its runbook"
        assert "cropline" in entry["tags"], "automations/zombies.yaml looks for the tag"
        names.append(name)
    assert set(names) >= {"poll", "process", "backfill", "replay", "maintain", "forget"}


def test_every_parameter_has_a_title_and_help_in_the_form() -> None:
    for entry in deployments(PREFECT_YAML):
        module, _, name = entry["entrypoint"].partition(":")
        flow = getattr(import_module(module), name)
        schema = form_schema(flow, parameter_schema(flow.fn).model_dump())
        assert schema["additionalProperties"] is False
        assert set(schema["properties"]) == set(inspect.signature(flow.fn).parameters)
        for field, shown in [*schema["properties"].items(), *_nested(schema)]:
            assert shown.get("title", field) != field, f"{name}.{field} has no title"
            is_group = "$ref" in shown or "allOf" in shown
            assert is_group or shown.get("description"), f"{name}.{field} has no help"


def _nested(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{model}.{name}", shown)
        for model, definition in schema["definitions"].items()
        for name, shown in definition.get("properties", {}).items()
    ]


MISTAKES = [
    ({"shedule": []}, "deployment 'poll': unknown key 'shedule'; Prefect would ignore it"),
    ({"concurrency_limit": {"limits": 1}}, "deployment 'poll', concurrency_limit: unknown key 'limits'"),
    ({"work_pool": {"name": "p", "jobvariables": {}}}, "deployment 'poll', work_pool: unknown key 'jobvariables'"),
    ({"work_pool": {"name": "p", "job_variables": {"stream": 1}}}, "job_variables: unknown key 'stream'"),
    ({"schedules": [{"slug": "s", "cron": "* * * * *", "timezon": "UTC"}]}, "schedule: unknown key 'timezon'"),
    ({"schedules": [{"cron": "* * * * *"}]}, "a schedule without a slug is duplicated"),
    ({"parameters": {"max_batch": 1}}, "deployment 'poll': poll takes no parameter 'max_batch'"),
    ({"entrypoint": "flows/poll.py:poll"}, "is a file; workers run installed code"),
    ({"entrypoint": "flows.poll:nothing"}, "entrypoint 'flows.poll:nothing' cannot be loaded"),
    ({"entrypoint": "flows.process:drain"}, "entrypoint 'flows.process:drain' is not a flow"),
    (
        {"work_pool": {"name": "p", "job_variables": {"env": {"X": "{{ prefect.blocks.secret.token }}"}}}},
        "looks like a secret; Prefect would store it in plain text",
    ),
]


@pytest.mark.parametrize(("change", "told"), MISTAKES)
def test_mistakes_are_reported(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    entry = {"name": "poll", "entrypoint": "flows.poll:poll", "work_pool": {"name": "p"}}
    path = tmp_path / "prefect.yaml"
    path.write_text(yaml.safe_dump({"deployments": [entry]}))
    assert check(path) == []
    path.write_text(yaml.safe_dump({"deployments": [entry | change]}))
    assert len(check(path)) == 1
    with pytest.raises(SettingsError, match=".*") as caught:
        refuse_mistakes(path)
    assert told in str(caught.value)


def test_unknown_top_level_keys_and_duplicate_names_are_reported(tmp_path: Path) -> None:
    entry = {"name": "poll", "entrypoint": "flows.poll:poll", "work_pool": {"name": "p"}}
    path = tmp_path / "prefect.yaml"
    path.write_text(yaml.safe_dump({"deployment": [], "deployments": [entry, entry]}))
    assert check(path) == [
        "prefect.yaml: unknown key 'deployment'; Prefect would ignore it",
        "prefect.yaml: deployment 'poll' is defined twice",
    ]


def test_the_shipped_automations_are_read() -> None:
    (zombies,) = read_file(ROOT / "automations" / "zombies.yaml", None, Settings())
    assert zombies.actions[0].type == "change-flow-run-state"
    alerts = read_file(ROOT / "automations" / "alerts.yaml", BLOCK, Settings())
    assert len({alert.name for alert in alerts}) == len(alerts) == 6
    assert {str(alert.actions[0].block_document_id) for alert in alerts} == {BLOCK}  # type: ignore[union-attr]


def test_every_alert_has_a_runbook() -> None:
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for alert in read_file(ROOT / "automations" / "alerts.yaml", BLOCK, Settings()):
        what = alert.name.removeprefix("cropline alert: ")
        assert f"\n### {what[0].upper()}{what[1:]}\n" in guide, what


def test_alerts_without_a_block_are_refused() -> None:
    with pytest.raises(SettingsError, match="needs a notification block; give --notify"):
        read_file(ROOT / "automations" / "alerts.yaml", None, Settings())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\ntriger: {}\n", "unknown keys triger; Prefect would ignore them"),
        ("name: x\nactions: []\n", "x: trigger"),
        ("- just text\n", "an automation is a mapping"),
        ("name: [\n", "not valid YAML"),
    ],
)
def test_broken_automations_are_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_file(path, None, Settings())
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "it is not set"),
        ("http://127.0.0.1:1/api", "no Prefect server answers at http://127.0.0.1:1/api"),
    ],
)
def test_an_unset_or_missing_server_is_reported(url: str, says: str) -> None:
    with (
        temporary_settings({PREFECT_API_URL: url} if url else {}, restore_defaults={PREFECT_API_URL}),
        pytest.raises(SettingsError, match=f"^PREFECT_API_URL: {says}"),
    ):
        deploy(PREFECT_YAML)


def test_several_sources_have_one_poll_and_one_watch_each_and_share_the_others() -> None:
    made = {entry["name"]: entry for entry in for_sources(deployments(PREFECT_YAML), ["acme", "Zeta_EU"])}
    assert set(made) == {
        "poll-acme", "poll-zeta-eu", "watch-acme", "watch-zeta-eu", "process", "backfill", "replay", "forget", "maintain",
    }  # fmt: skip
    assert made["poll-zeta-eu"]["parameters"] == {"source": "Zeta_EU", "max_batches": None}
    assert made["poll-acme"]["tags"] == ["cropline", "source:acme"]
    assert made["poll-acme"]["schedules"] == made["poll-zeta-eu"]["schedules"] != []


def test_a_poll_that_names_no_source_is_refused_when_there_are_several() -> None:
    entry = {"name": "mine", "entrypoint": "flows.poll:poll", "parameters": {"max_batches": 3}}
    with pytest.raises(SettingsError, match="deployment 'mine': there are several sources; add source"):
        for_sources([entry], ["acme", "zeta"])
    named = entry | {"parameters": {"source": "acme"}}
    assert for_sources([named], ["acme", "zeta"]) == [named]


def test_the_form_offers_the_sources_by_name() -> None:
    from flows.backfill import backfill

    schema = parameter_schema(backfill.fn).model_dump()
    assert form_schema(backfill, schema, ["acme", "zeta"])["properties"]["source"] == {
        "default": None,
        "description": "name of one of several sources (CROPLINE_SOURCES); empty: the only one",
        "enum": ["acme", "zeta"],
        "position": 7,
        "title": "Source",
        "type": "string",
    }
    assert "enum" not in form_schema(backfill, schema)["properties"]["source"]


def test_an_environment_has_its_own_names_tags_events_and_pool() -> None:
    settings = Settings(environment="staging", image="registry.example.com/cropline:1")
    made = {entry["name"]: entry for entry in for_environment(deployments(PREFECT_YAML), settings)}
    assert all(name.startswith("staging-") for name in made)
    poll = made["staging-poll"]
    assert poll["tags"] == ["staging-cropline"]
    assert poll["work_pool"]["name"] == "staging-cropline"
    assert poll["work_pool"]["job_variables"]["image"] == "registry.example.com/cropline:1"
    assert made["staging-process"]["triggers"][0]["match"] == {"prefect.resource.id": "cropline.staging.source.*"}
    assert limit_of(settings) == "staging-cropline-image-api"
    assert settings.resource("source", "acme") == "cropline.staging.source.acme"


def test_automations_of_an_environment_watch_its_runs_only() -> None:
    settings = Settings(environment="staging")
    for file in ("zombies.yaml", "alerts.yaml"):
        text = (ROOT / "automations" / file).read_text()
        ours = read_file(ROOT / "automations" / file, BLOCK, settings)
        theirs = read_file(ROOT / "automations" / file, BLOCK, Settings())
        assert {one.name for one in ours}.isdisjoint({one.name for one in theirs})
        shown = json.dumps([one.model_dump(mode="json") for one in ours])
        assert ("prefect.tag.cropline" in text) == ("prefect.tag.staging-cropline" in shown)
        assert '"prefect.tag.cropline"' not in shown
        assert "cropline.source." not in shown


def test_without_an_environment_the_files_stay_as_they_are() -> None:
    entries = deployments(PREFECT_YAML)
    assert for_environment(entries, Settings()) == entries


@dataclass
class _Server:
    """What refuse_other_pools asks of a Prefect client."""

    found: list[tuple[str, str, str | None]]

    def read_deployments(self, *, sort: object, limit: int, offset: int) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(name=name, entrypoint=entrypoint, work_pool_name=pool)
            for name, entrypoint, pool in self.found[offset : offset + min(limit, 200)]
        ]


def test_a_deployment_in_another_pool_is_refused_and_others_are_not() -> None:
    entries = deployments(PREFECT_YAML)
    for held in ([], [("poll", "flows.poll:poll", "cropline")], [("poll", "other:poll", "elsewhere")]):
        refuse_other_pools(cast("SyncPrefectClient", _Server(held)), entries)
    taken = _Server([("poll", "flows.poll:poll", "elsewhere")])
    many = _Server([(f"other-{n}", "other:flow", "elsewhere") for n in range(450)] + taken.found)
    for server in (taken, many):
        with pytest.raises(
            SettingsError, match="poll is in the work pool elsewhere, not cropline: another environment"
        ):
            refuse_other_pools(cast("SyncPrefectClient", server), entries)


def test_the_digest_of_settings_changes_with_a_setting_and_not_with_a_secret() -> None:
    one, other = Settings(api={"url": "http://a.example"}), Settings(api={"url": "http://b.example"})
    assert one.digest == Settings(api={"url": "http://a.example"}).digest != other.digest
    assert Settings(api={"token": "one"}).digest == Settings(api={"token": "two"}).digest


def test_a_source_that_is_no_more_loses_its_deployments_and_nothing_else_is_touched() -> None:
    from uuid import uuid4

    from prefect.client.schemas.responses import DeploymentResponse

    from automations.deploy import _drop_other_sources

    def on_server(name: str, point: str, *tags: str) -> DeploymentResponse:
        return DeploymentResponse(id=uuid4(), name=name, flow_id=uuid4(), entrypoint=point, tags=["cropline", *tags])

    there = [
        on_server("poll", "flows.poll:poll"),
        on_server("poll-acme", "flows.poll:poll", "source:acme"),
        on_server("poll-gone", "flows.poll:poll", "source:gone"),
        on_server("poll-by-hand", "flows.poll:poll"),
        on_server("process", "flows.process:process"),
    ]
    deleted = []
    client: Any = SimpleNamespace(read_deployments=lambda **_: there, delete_deployment=deleted.append)
    file = deployments(PREFECT_YAML)
    names = _drop_other_sources(client, file, for_sources(file, ["acme"]), Settings())
    assert names == ["poll", "poll-gone"]
    assert deleted == [there[0].id, there[2].id]
