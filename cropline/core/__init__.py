"""Base modules that every other package uses: errors, failures, keys, schemas, columns, storage, scrubbing.

They import nothing else of cropline and read no settings.
"""
