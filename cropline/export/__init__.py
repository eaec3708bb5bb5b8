"""Export: copies crops that the user's condition chooses out of the store, in a format that other tools read.

It holds choosing, reading, and writing to a local folder. It does not change anything in the store.
"""

from cropline.export.export import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "export"]
