"""Gets one photo's bytes safely: over HTTP, from a bucket, from a folder, or from the work item itself.

It decides which addresses are allowed and bounds time and bytes. It does not read pictures (imaging)
and does not schedule retries (the state table).
"""
