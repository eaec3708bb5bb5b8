"""Builds the lineage events of each step: which datasets it read and wrote, with which counts.

The START of a step is built together with its end: a step that was killed leaves neither, and its next attempt emits
both. Only the flow's START is emitted alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cropline.lineage import datasets, facets
from cropline.lineage.columns import catalogue_columns
from cropline.lineage.events import Event, EventKind, RunContext, run_event

if TYPE_CHECKING:
    from cropline.config.settings import Settings

# Maintenance of the catalogue is a step of the flow maintain: its job needs another name.
VALIDATE, CROP, MAINTAIN = "cropline.validate", "cropline.crop", "cropline.maintain.catalogue"
# Steps that do not run on the engine of the settings.
_ENGINES = {VALIDATE: "great-expectations", MAINTAIN: "deltalake"}


class EventBuilder:
    """Builds the events of one flow run. All times need a time zone. It does no I/O."""

    def __init__(self, settings: Settings, context: RunContext) -> None:
        self._settings = settings
        self._context = context
        self._spec = settings.storage.spec

    def began(self) -> list[Event]:
        """The flow run's START, at the time of the context."""
        return [self._event("START", self._context.job, self._context.started_at, *self._flow_datasets(None, None))]

    def ended(
        self,
        at: datetime,
        *,
        kind: EventKind = "COMPLETE",
        error: str | None = None,
        polled: int | None = None,
        landed: int | None = None,
        manifest: str | None = None,
    ) -> list[Event]:
        """The flow run's end. ``polled``: items from the API. ``landed``: rows of the manifest (a storage key)."""
        inputs, outputs = self._flow_datasets(polled, landed, manifest)
        return [self._event(kind, self._context.job, at, inputs, outputs, error=error)]

    def validated(
        self,
        at: datetime,
        *,
        started_at: datetime,
        manifest: str,
        rows: int,
        outcomes: Iterable[facets.Expectation],
        quarantined: int,
        quarantine: str | None = None,
        error: str | None = None,
        columns: Mapping[str, Mapping[str, int | float]] | None = None,
    ) -> list[Event]:
        """START and end of validate: COMPLETE, or FAIL when ``error`` says why (the error budget was exceeded).

        ``columns``: metrics of the manifest's columns, see metrics.py.
        """
        from cropline.core.schemas import MANIFEST

        quality = {
            "dataQualityAssertions": facets.assertions(outcomes, MANIFEST.names),
            "dataQualityMetrics": facets.quality_metrics(rows, columns or {}, files=1),
            "inputStatistics": facets.input_statistics(rows, files=1),
        }
        outputs = [self._works(rows - quarantined)] if error is None else []
        if quarantined:
            statistics = {"outputStatistics": facets.output_statistics(quarantined, files=1)}
            outputs.append(self._quarantine(quarantine, statistics))
        return self._both(VALIDATE, started_at, at, manifest, [self._manifests(manifest, quality)], outputs, error)

    def validate_failed(
        self, at: datetime, *, started_at: datetime, manifest: str, error: str, kind: EventKind = "FAIL"
    ) -> list[Event]:
        """START and end of validate, when it failed without a result."""
        inputs = [self._manifests(manifest, None)]
        return self._both(VALIDATE, started_at, at, manifest, inputs, [], error, bad_end=kind)

    def cropped(
        self,
        at: datetime,
        *,
        started_at: datetime,
        batch_id: str,
        attempt: int,
        images: int,
        boxes: int,
        written: int,
        failed: int,
        skipped: int,
        catalogue_version: int,
        crop_bytes: int | None = None,
        superseded: int = 0,
        engine: str | None = None,
    ) -> list[Event]:
        """START and COMPLETE of crop for one batch. They are stored in the batch's commit.

        ``engine``: the engine that cut the batch; None: the one of the settings.
        """
        counts = {"images": images, "boxes": boxes, "written": written, "failed": failed, "skipped": skipped}
        crops = {"outputStatistics": facets.output_statistics(written, crop_bytes, written)}
        outputs = [
            self._files("crops", None, outputs=crops),
            self._catalogue(written + failed + skipped, catalogue_version, superseded),
            self._works(images),
        ]
        tags = {f"cropline.{name}": str(value) for name, value in counts.items()}
        tags |= {"cropline.batch": batch_id, "cropline.attempt": str(attempt)}
        return self._both(CROP, started_at, at, batch_id, self._crop_inputs(images), outputs, None, tags, engine=engine)

    def crop_failed(
        self, at: datetime, *, started_at: datetime, batch_id: str, attempt: int, error: str, kind: EventKind = "FAIL"
    ) -> list[Event]:
        """START and end of crop for an attempt that ended without a commit. The next attempt is another run."""
        tags = {"cropline.batch": batch_id, "cropline.attempt": str(attempt)}
        part = f"{batch_id}#{attempt}"
        return self._both(CROP, started_at, at, part, self._crop_inputs(None), [], error, tags, kind)

    def maintained(
        self,
        at: datetime,
        *,
        started_at: datetime,
        catalogue_version: int | None,
        changed: bool,
        error: str | None = None,
        kind: EventKind = "FAIL",
    ) -> list[Event]:
        """Maintenance of the catalogue, from START to end. ``changed``: files were rewritten (no row changes)."""
        name = datasets.stored(self._spec, "catalogue")
        version = facets.dataset_version(str(catalogue_version)) if catalogue_version is not None else None
        storage = facets.storage("delta", "parquet")
        outputs = [
            datasets.dataset(
                name,
                version=version,
                storage=storage,
                lifecycleStateChange=facets.lifecycle("OVERWRITE") if changed else None,
            )
        ]
        return self._both(
            MAINTAIN, started_at, at, "", [datasets.dataset(name, storage=storage)], outputs, error, bad_end=kind
        )

    def _both(
        self,
        job: str,
        started_at: datetime,
        at: datetime,
        part: str,
        inputs: list[dict[str, Any]],
        outputs: list[dict[str, Any]],
        error: str | None,
        tags: Mapping[str, str] | None = None,
        bad_end: EventKind = "FAIL",
        engine: str | None = None,
    ) -> list[Event]:
        kind: EventKind = "COMPLETE" if error is None else bad_end
        bare_in, bare_out = (
            [datasets.dataset((d["namespace"], d["name"])) for d in group] for group in (inputs, outputs)
        )
        return [
            self._event("START", job, started_at, bare_in, bare_out, part=part, tags=tags, engine=engine),
            self._event(kind, job, at, inputs, outputs, part=part, error=error, tags=tags, engine=engine),
        ]

    def _event(
        self,
        kind: EventKind,
        job: str,
        at: datetime,
        inputs: list[dict[str, Any]],
        outputs: list[dict[str, Any]],
        *,
        part: str = "",
        error: str | None = None,
        tags: Mapping[str, str] | None = None,
        engine: str | None = None,
    ) -> Event:
        namespace = self._settings.lineage.namespace
        return run_event(
            kind,
            job,
            self._context,
            at=at,
            namespace=namespace,
            part=part,
            inputs=inputs,
            outputs=outputs,
            error=error,
            tags=tags,
            engine=engine or _ENGINES.get(job),
        )

    def _flow_datasets(
        self, polled: int | None, landed: int | None, manifest: str | None = None
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Inputs and outputs of the flow. Only a flow that polls has the API as input and manifests as output."""
        if self._context.job not in ("cropline.poll", "cropline.watch"):
            return [], []
        read = {"inputStatistics": facets.input_statistics(polled)} if polled is not None else None
        inputs = [datasets.dataset(datasets.api(self._settings), inputs=read)]
        if not landed:
            return inputs, []
        wrote = {"outputStatistics": facets.output_statistics(landed, files=1)}
        return inputs, [self._manifests(manifest, None, wrote)]

    def _crop_inputs(self, images: int | None) -> list[dict[str, Any]]:
        from cropline.core.schemas import STORES

        read = {"inputStatistics": facets.input_statistics(images)} if images is not None else None
        found = [
            self._manifests(None, read),
            datasets.dataset(datasets.state_table(self._settings, "images"), inputs=read),
            datasets.dataset(datasets.state_table(self._settings, "profiles")),
        ]
        if (stores := datasets.stores(self._settings)) is not None:
            found.append(datasets.dataset(stores, schema=facets.schema(STORES)))
        return found

    def _manifests(
        self, key: str | None, inputs: dict[str, Any] | None, outputs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        from cropline.core.columns import MANIFEST_COLUMNS
        from cropline.core.schemas import MANIFEST

        layer = facets.storage(self._spec.scheme, "parquet")
        return self._files(
            "manifests",
            key,
            inputs=inputs,
            outputs=outputs,
            schema=facets.schema(MANIFEST, MANIFEST_COLUMNS),
            storage=layer,
        )

    def _quarantine(self, key: str | None, outputs: dict[str, Any]) -> dict[str, Any]:
        from cropline.intake.quarantine import QUARANTINE

        layer = facets.storage(self._spec.scheme, "parquet")
        return self._files("quarantine", key, outputs=outputs, schema=facets.schema(QUARANTINE), storage=layer)

    def _files(
        self,
        prefix: str,
        key: str | None,
        *,
        inputs: dict[str, Any] | None = None,
        outputs: dict[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Files below a prefix of the storage. ``key``: the file that this run read or wrote, as the version."""
        version = facets.dataset_version(key) if key is not None else None
        return datasets.dataset(
            datasets.stored(self._spec, prefix), inputs=inputs, outputs=outputs, version=version, **more
        )

    def _works(self, rows: int) -> dict[str, Any]:
        name = datasets.state_table(self._settings, "images")
        return datasets.dataset(name, outputs={"outputStatistics": facets.output_statistics(rows)})

    def _catalogue(self, rows: int, version: int, superseded: int) -> dict[str, Any]:
        from cropline.catalogue import CATALOGUE
        from cropline.core.columns import CATALOGUE_COLUMNS

        settings = self._settings
        # Version 0 is the empty table, which the first batch's commit created.
        change = "OVERWRITE" if superseded else "CREATE" if version == 1 else None
        return datasets.dataset(
            datasets.stored(self._spec, "catalogue"),
            outputs={"outputStatistics": facets.output_statistics(rows)},
            schema=facets.schema(CATALOGUE, CATALOGUE_COLUMNS),
            version=facets.dataset_version(str(version)),
            storage=facets.storage("delta", "parquet"),
            lifecycleStateChange=facets.lifecycle(change) if change else None,
            columnLineage=catalogue_columns(
                datasets.stored(self._spec, "manifests"),
                datasets.state_table(settings, "profiles"),
                datasets.state_table(settings, "images"),
                datasets.stores(settings),
            ),
        )
