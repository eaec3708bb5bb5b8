"""The crop processes: starting and feeding them, running user functions, storing and packing crops.

It holds both ends of a crop process. It does not hold the pixel work (imaging), downloads (fetching)
or the conversion of Arrow rows (fugue_jobs/rows.py).
"""
