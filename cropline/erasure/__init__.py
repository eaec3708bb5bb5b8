"""Erasure: what was made of some photos goes, all of it, and never comes back. ``cropline forget`` is its command.

Belongs here: choosing the photos, finding and removing what was made of them, the receipt. Does not: tombstones and the
queue (cropline/state/erasures.py), or ageing out what nobody asked to forget (cropline/upkeep).
docs/decisions/0011-erasure.md says why it is built so.
"""

from cropline.erasure.erase import Erased, finish, foresee, forget
from cropline.erasure.recall import recall
from cropline.erasure.selection import Selection
from cropline.erasure.telling import teller

__all__ = ["Erased", "Selection", "finish", "foresee", "forget", "recall", "teller"]
