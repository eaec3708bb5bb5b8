"""Where a run's outputs are. The one list that the CLI, the artifact and the HTML report show."""

from __future__ import annotations

from cropline.config.settings import Settings
from cropline.lineage.stored import FOLDER
from cropline.pipeline.funnel import Funnel


def report_key(flow: str, flow_run_id: str, day: str) -> str:
    """Storage key of a run's HTML report."""
    return f"reports/{day}/{flow}-{flow_run_id}.html"


def places(settings: Settings, funnel: Funnel) -> list[tuple[str, str]]:
    """Return (name, address) of each output of a run."""
    spec = settings.storage.spec
    found: list[tuple[str, str | None]] = [
        ("crops", spec.uri("crops/")),
        ("catalogue", spec.uri("catalogue")),
        ("gallery", settings.storage.gallery_url or None),
        ("contact sheet", spec.uri(funnel.sheet) if funnel.sheet else None),
        ("report", spec.uri(funnel.report) if funnel.report else None),
        ("manifest", spec.uri(funnel.manifest) if funnel.manifest else None),
        ("quarantine", spec.uri(funnel.quarantine) if funnel.quarantine else None),
        ("Data Docs", funnel.docs),
        ("lineage", lineage_place(settings)),
    ]
    return [(what, where) for what, where in found if where]


def lineage_place(settings: Settings) -> str | None:
    """Return where lineage events go, without secrets."""
    lineage, spec = settings.lineage, settings.storage.spec
    where = {
        "file": str(lineage.file_path(spec) or spec.uri(f"{FOLDER}/")),
        "http": lineage.url,
        "kafka": f"Kafka topic {lineage.topic}",
    }
    return ", ".join(place for way in lineage.transport_names if (place := where.get(way))) or None
