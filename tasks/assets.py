"""Asset events: Prefect's event feed shows what a run made, beside its other events. Nothing depends on them."""

from __future__ import annotations

from prefect.events import emit_event

from cropline.pipeline.run import Run
from tasks.harmless import harmless


def emit_assets(run: Run) -> None:
    """Emit an event for the manifest, the crops and the catalogue that the run wrote. It never fails a run."""
    funnel, spec = run.funnel, run.spec
    with harmless("the asset events"):
        manifest = spec.uri(funnel.manifest) if funnel.manifest else None
        if manifest is not None:
            _emit(manifest, "manifest", [], {"rows": funnel.landed})
        if funnel.catalogue_version is not None:
            counts = {"written": funnel.written, "failed": funnel.failed, "skipped": funnel.skipped}
            crops, catalogue = spec.uri("crops/"), spec.uri("catalogue")
            _emit(crops, "crops", [manifest] if manifest else [], counts)
            _emit(catalogue, "catalogue", [crops], counts | {"version": funnel.catalogue_version})


def _emit(address: str, name: str, made_of: list[str], payload: dict[str, int]) -> None:
    emit_event(
        event="prefect.asset.materialization.succeeded",
        resource={"prefect.resource.id": address, "prefect.resource.name": name},
        related=[
            *({"prefect.resource.id": each, "prefect.resource.role": "asset"} for each in made_of),
            {"prefect.resource.id": "cropline", "prefect.resource.role": "asset-materialized-by"},
        ],
        payload=payload,
    )
