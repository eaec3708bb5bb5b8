"""The catalogue of crops: a Delta table at ``<storage root>/catalogue``, one row a box and profile, that downstream reads.

Belongs here: the table's shape, its atomic commits, reading and maintenance. Does not: deciding what a batch is or who holds
its lease (cropline.state), or writing crops. Importing this package imports neither deltalake nor pyarrow.dataset.
docs/decisions/0005-catalogue.md says why it is built so.
"""

from cropline.catalogue.history import PastRows
from cropline.catalogue.log import Memory
from cropline.catalogue.maintenance import MaintenanceResult
from cropline.catalogue.rows import CATALOGUE
from cropline.catalogue.table import Appended, Catalogue

__all__ = ["CATALOGUE", "Appended", "Catalogue", "MaintenanceResult", "Memory", "PastRows"]
