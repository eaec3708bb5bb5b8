"""Sources of items: each yields pages of items changed since a time, and checks that they are complete.

Not here: the meaning of an item's fields (intake/manifest.py).
"""
