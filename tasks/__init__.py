"""The Prefect tasks, one verb each, in data-flow order: poll, land, validate, register, claim, crop, commit, publish.

It holds what runs as a step of a flow. It does not hold flows (flows/) or the library behind the steps (cropline/).
No task is cached: each has side effects, and only the state table knows what is done.
"""
