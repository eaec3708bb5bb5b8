"""The catalogue of crops: a Delta table at ``<storage root>/catalogue`` with one row per box and profile.

This package holds its schema, its atomic commits, its reading and its maintenance. Not here: leases
(cropline.state) and the files of crops, except reading one. Importing it imports neither deltalake nor
pyarrow.dataset. Reasons: docs/decisions/0005-catalogue.md.
"""

from cropline.catalogue.history import PastRows
from cropline.catalogue.log import Memory
from cropline.catalogue.maintenance import MaintenanceResult
from cropline.catalogue.rows import CATALOGUE
from cropline.catalogue.table import Appended, Catalogue

__all__ = ["CATALOGUE", "Appended", "Catalogue", "MaintenanceResult", "Memory", "PastRows"]
