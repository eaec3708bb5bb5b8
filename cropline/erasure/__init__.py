"""Erasure: removes everything that was made of some photos, for good. ``cropline forget`` is its command.

It holds: choosing the photos, finding and removing what was made of them, the receipt. It does not hold tombstones and the
queue (cropline.state) or retention by age (maintenance). docs/decisions/0011-erasure.md says why it is built so.
"""

from cropline.erasure.erase import Erased, finish, foresee, forget
from cropline.erasure.selection import Selection
from cropline.erasure.telling import teller

__all__ = ["Erased", "Selection", "finish", "foresee", "forget", "teller"]
