"""The front door: crops of the boxes of a user's DataFrame, through ``cropline.crop`` and FugueSQL.

It holds the options, the readers of each kind of frame, and the ways to run them here or on a
cluster. It does not import Prefect, Great Expectations, the state or the catalogue, and it imports
an engine only when it gets a frame of that engine.
"""
