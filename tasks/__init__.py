"""The steps, one file each, named by their verb: poll, land, validate, register, claim, crop, commit, publish.

Prefect lives here and in flows/. A step takes the Run and what the step before it gave; it is a task so that an
operator sees it, its time and its failure in the UI. None is cached: each has side effects, and the state table alone
knows what is done.
"""
