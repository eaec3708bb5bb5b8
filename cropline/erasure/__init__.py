"""Erasure: removes everything that was made of some photos, for good. ``cropline forget`` is its command.

Belongs here: choosing the photos, finding and removing what was made of them, the receipt. Does not: tombstones and the
queue (cropline/state/tombstones.py), or ageing out what nobody asked to forget (cropline/maintenance).
docs/decisions/0011-erasure.md says why it is built so.
"""

from cropline.erasure.erase import ErasureResult, estimate, finish, forget
from cropline.erasure.events import event_emitter
from cropline.erasure.recall import recall
from cropline.erasure.selection import Selection

__all__ = ["ErasureResult", "Selection", "estimate", "event_emitter", "finish", "forget", "recall"]
