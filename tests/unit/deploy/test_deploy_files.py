"""The files of deploy/ are valid where they will be read, and name commands, settings and files that exist."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from cropline.cli import app
from cropline.config.settings import Settings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
VERSION = "1.33"
COMMANDS = set(get_command(app).commands)  # type: ignore[attr-defined]


def objects() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(KUBERNETES.glob("*.yaml")):
        if file.name != "kustomization.yaml":
            for loaded in yaml.safe_load_all(file.read_text()):
                yield file.name, loaded


def test_every_object_fits_the_schemas_of_kubernetes() -> None:
    kinds = []
    for name, loaded in objects():
        kinds.append(loaded["kind"])
        try:
            kubernetes_validate.validate(loaded, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{name}: {loaded['kind']}: {error.message}")
    assert kinds.count("Deployment") == 3


def test_the_kustomization_names_every_file() -> None:
    named = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert sorted(named) == sorted({file for file, _ in objects()})


def test_what_an_object_refers_to_is_there() -> None:
    there = {(loaded["kind"], loaded["metadata"]["name"]) for _, loaded in objects()}
    text = json.dumps([loaded for _, loaded in objects()]) + (KUBERNETES / "job-template.json").read_text()
    for kind, pattern in (
        ("ServiceAccount", r'"serviceAccountName": "(cropline[\w-]*)"'),
        ("ConfigMap", r'"configMapRef": \{\s*"name": "([\w-]+)"'),
        ("ConfigMap", r'"configMap": \{\s*"name": "([\w-]+)"'),
        ("Role", r'"kind": "Role", "name": "([\w-]+)"'),
    ):
        found = set(re.findall(pattern, text))
        assert found, pattern
        assert {(kind, name) for name in found} <= there


def test_executor_pods_have_a_template_that_is_valid() -> None:
    (template,) = [loaded for _, loaded in objects() if loaded["metadata"]["name"] == "cropline-executor"]
    pod = yaml.safe_load(template["data"]["executor.yaml"])
    pod["metadata"]["name"] = "executor"
    pod["spec"]["containers"][0]["image"] = "cropline"  # Spark sets it
    kubernetes_validate.validate(pod, VERSION, strict=True)


@pytest.mark.slow
def test_a_flow_run_becomes_a_job_that_starts_prefect_in_the_image() -> None:
    """Rendered as the Kubernetes worker does. backoffLimit 0: Prefect alone tries again."""
    from prefect.client.schemas.objects import FlowRun
    from prefect.utilities.templating import apply_values
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    template = json.loads((KUBERNETES / "job-template.json").read_text())
    defaults = {name: entry.get("default") for name, entry in template["variables"]["properties"].items()}
    values = {"image": "registry.example.com/cropline:1", "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}}
    made = KubernetesWorkerJobConfiguration(**apply_values(template["job_configuration"], defaults | values))
    made.prepare_for_flow_run(FlowRun(flow_id=uuid4()))
    job = made.job_manifest
    for name in ("completions", "parallelism"):
        # Prefect asks for them in the pod, where Kubernetes knows no such field and drops it.
        del job["spec"]["template"]["spec"][name]
    kubernetes_validate.validate(job, VERSION, strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/cropline:1"
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert {"name": "PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "value": "30"} in container["env"]
    assert job["spec"]["backoffLimit"] == 0
    assert "command" not in container, "the image's entry point starts it"


def test_every_setting_in_the_files_exists() -> None:
    named = set()
    for file in DEPLOY.rglob("*"):
        if file.is_file():
            named |= set(re.findall(r"\bCROPLINE_[A-Z0-9_]+", file.read_text()))
    assert named
    for name in named:
        groups = name.removeprefix("CROPLINE_").lower().split("__")
        model: Any = Settings
        for group in groups:
            assert group in model.model_fields, name
            model = model.model_fields[group].annotation


def test_every_command_in_the_files_exists() -> None:
    found = set()
    for file in [*DEPLOY.rglob("*.y*ml"), *DEPLOY.rglob("*.service"), ROOT / "Dockerfile"]:
        text = file.read_text()
        found |= set(re.findall(r"\[\"?cropline\"?, \"?([a-z-]+)\"?[,\]]", text))
        found |= set(re.findall(r"^ExecStart=\S+/cropline (\S+)", text, re.MULTILINE))
    assert {"gallery", "metrics", "deploy", "status"} <= found
    assert found - {"--help"} <= COMMANDS


def test_compose_refers_only_to_what_it_has() -> None:
    loaded = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = loaded["services"]
    asked = set()
    for name, service in services.items():
        for needed in service.get("depends_on") or ():
            assert needed in services, name
        for volume in service.get("volumes") or ():
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in loaded["volumes"], volume
    asked = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    given = set(re.findall(r"^(\w+)=", (DEPLOY / "compose.env.example").read_text(), re.MULTILINE))
    assert asked <= given


def test_no_file_holds_a_secret() -> None:
    for file in DEPLOY.rglob("*"):
        if file.is_file():
            for name, value in re.findall(r"^ *(\w*(?:PASSWORD|TOKEN|SECRET)\w*)[=:] *(\S+)", file.read_text(), re.M):
                assert value.strip('"').startswith(("${", "{{secrets/")), f"{file.name}: {name}"


def test_units_start_what_the_image_or_a_venv_has() -> None:
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        text = unit.read_text()
        (start,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
        assert shlex.split(start)[0] in ("/opt/cropline/bin/prefect", "/opt/cropline/bin/cropline")
        for line in ("User=cropline", "EnvironmentFile=/etc/cropline/cropline.env", "PrivateTmp=true"):
            assert line in text.splitlines(), unit.name
