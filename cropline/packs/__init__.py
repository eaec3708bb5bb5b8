"""Packs: many crops in one object, each readable by one range request. WebDataset tars (``shards``) and Parquet files.

It holds writing packs to a file, their keys, and storing them. It does not decide which crops go into which pack
(fugue_jobs/pool/packing.py, cropline/erasure, cropline/export). Importing it imports no Arrow, so that crop processes
start quickly. docs/decisions/0012-packs.md says why packs are named by their content.
"""

from cropline.packs.kinds import new_pack
from cropline.packs.pack import KINDS, Pack, Sample, Sealed
from cropline.packs.spool import Spool, beside, index_key, pack_folder, sample_name

__all__ = [
    "KINDS",
    "Pack",
    "Sample",
    "Sealed",
    "Spool",
    "beside",
    "index_key",
    "new_pack",
    "pack_folder",
    "sample_name",
]
