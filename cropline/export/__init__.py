"""Export: crops that a user's own condition chooses, copied out of the store in a format that tools read.

Belongs here: choosing, reading, writing to a local folder. Does not: changing anything in the store.
"""

from cropline.export.export import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "export"]
