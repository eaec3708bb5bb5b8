"""Drift: warnings about what is unusual in a manifest or batch, compared with the source's own past. They never block.

It holds baselines, near-duplicates and the limits of what is unusual. It does not hold validation rules (expectations/)
or what a run does with a warning (tasks/warnings.py).
"""
