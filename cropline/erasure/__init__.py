"""Erasure: removes everything that was made from some photos, for good. Its command is ``cropline forget``.

It holds the selection of photos, the search for and removal of what was made from them, and the receipt. It does not
hold tombstones and the queue (cropline/state/tombstones.py), or retention (cropline/maintenance).
It imports nothing, because every run reads the receipts and an idle run loads no heavy library.
docs/decisions/0011-erasure.md says why it is built so.
"""
