"""Runs the crop job on an engine: chooses it, plans the batch, ships our code, and runs the script.

There is one module per engine. This package does not hold the transformer (fugue_jobs/crop_images.py)
or the crop processes (pool).
"""
