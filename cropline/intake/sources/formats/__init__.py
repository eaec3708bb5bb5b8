"""Formats of files: each module turns an open file into items. Not here: finding files (sources/files.py)."""
