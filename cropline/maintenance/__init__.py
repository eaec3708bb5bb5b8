"""Maintenance of what runs leave: crops past their days, objects that nobody knows, old manifests, quarantine and reports.

Belongs here: finding what is to go, and removing it. Does not: the Delta table's own maintenance (cropline/catalogue/maintenance.py),
or what someone asked to forget (cropline/erasure). Everything takes ``dry_run`` and can be killed and run again.
"""

from cropline.maintenance.orphans import remove_orphans
from cropline.maintenance.result import CleanupResult
from cropline.maintenance.retention import apply_retention, expire_crops

__all__ = ["CleanupResult", "apply_retention", "expire_crops", "remove_orphans"]
