"""Maintenance of what runs leave: expired crops, orphans, packs of dead crops, old manifests, quarantine, reports and work.

It finds what is to be removed, and removes it. It does not maintain the Delta table (cropline/catalogue/maintenance.py)
or erase what a user asked to forget (cropline/erasure). Every part accepts ``dry_run`` and can be killed and run again.
"""

from cropline.maintenance.current import index_packs
from cropline.maintenance.ended_work import move_out_ended
from cropline.maintenance.orphans import remove_orphans
from cropline.maintenance.packs import rewrite_packs
from cropline.maintenance.result import CleanupResult
from cropline.maintenance.retention import apply_retention, expire_crops

__all__ = [
    "CleanupResult",
    "apply_retention",
    "expire_crops",
    "index_packs",
    "move_out_ended",
    "remove_orphans",
    "rewrite_packs",
]
