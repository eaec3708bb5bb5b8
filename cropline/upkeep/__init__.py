"""Upkeep of what runs leave: crops past their days, objects that nobody knows, old manifests, quarantine and reports.

Belongs here: finding what is to go, and removing it. Does not: the Delta table's own upkeep (cropline/catalogue/maintain.py),
or what someone asked to forget (cropline/erasure). Everything takes ``dry_run`` and can be killed and run again.
"""

from cropline.upkeep.ageing import age_out, expire_crops
from cropline.upkeep.sweep import sweep
from cropline.upkeep.taken import Taken

__all__ = ["Taken", "age_out", "expire_crops", "sweep"]
