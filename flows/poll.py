"""The poll deployment: crops what the image API has announced since the last poll."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from cropline.pipeline.funnel import Funnel
from flows.process import drain
from flows.running import Source, drained_on_failure, open_run, run_name
from tasks.intake import take_in

MaxBatches = Annotated[
    int | None,
    Field(
        title="Batches",
        ge=0,
        description="process at most this many batches, with 0 only register; empty: CROPLINE_BATCH__MAX_BATCHES",
    ),
]
LookBack = Annotated[
    int | None,
    Field(
        title="Look back, seconds",
        ge=0,
        description="how far before the cursor to read again, for late arrivals; empty: CROPLINE_API__OVERLAP",
    ),
]

Files = Annotated[
    str | None,
    Field(
        title="Files",
        description="read these files once instead of the source, with its mapping: a path or the URL of a storage, which "
        "may have a glob",
    ),
]
FilesFormat = Annotated[
    Literal["", "csv", "parquet", "jsonl", "json", "coco", "label_studio"],
    Field(title="Format of the files", description="empty goes by the ending of a name"),
]


@flow(name="poll", flow_run_name=run_name("poll"), persist_result=False)
def poll(
    max_batches: MaxBatches = None,
    look_back_s: LookBack = None,
    source: Source = None,
    files: Files = None,
    files_format: FilesFormat = "",
) -> Funnel:
    """Poll the image API, then crop what is new.

    **What it does.** Reads the API since the saved cursor, lands the items as a manifest, validates it (bad rows go to
    quarantine), and registers new and changed images. Then it claims, crops and commits batches until the backlog is
    empty or `max_batches` is reached. Without news and backlog it ends at once.

    **When it fails.**
    - `api_unavailable`: the API did not answer. Nothing is lost: the next poll reads the same again, and the backlog was
      processed.
    - `api_refused`: the token, the path or the paging is wrong, or a file cannot be read. The message says which. Other
      files were registered and cropped.
    - `manifest_rejected`: too many rows are bad. Nothing was registered, and the cursor did not move. Open the Data Docs,
      fix the source or change the rules (`CROPLINE_EXPECTATIONS__...`), and poll again.
    - `nothing_came_through`: every row was bad, or every box failed. The lines before the error name the setting to check.
    - `stale_lease`: this run was too slow, and another run took its batch over. That run finishes it.
    - Anything else: run it again. It resumes an open batch under the same id, so nothing is doubled.

    **Look at** the artifact of this run for counts and reasons, `cropline status` for the backlog, and docs/failures.md
    for what to do about a reason code.
    """
    with open_run("poll", source) as run:
        if files:
            run.read_once(files, files_format)
        with drained_on_failure(lambda: drain(run, max_batches)):
            take_in(run, None if look_back_s is None else timedelta(seconds=look_back_s))
        drain(run, max_batches)
        return run.funnel
