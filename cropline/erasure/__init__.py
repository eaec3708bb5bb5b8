"""Erasure: removes everything that was made from some photos, for good. Its command is ``cropline forget``.

It holds the selection of photos, the search for and removal of what was made from them, and the receipt. It does not
hold tombstones and the queue (cropline/state/tombstones.py), or retention (cropline/maintenance).
docs/decisions/0011-erasure.md says why it is built so.
"""

from cropline.erasure.erase import ErasureResult, estimate, finish, forget
from cropline.erasure.events import event_emitter
from cropline.erasure.recall import recall
from cropline.erasure.selection import Selection

__all__ = ["ErasureResult", "Selection", "estimate", "event_emitter", "finish", "forget", "recall"]
