"""The front door: crops of the boxes of a DataFrame, where it lies. Reached through ``cropline.crop`` and FugueSQL.

No Prefect, Great Expectations, state or catalogue is imported here, and no engine before a frame of it comes.
"""
