"""Expectations: what a good manifest and a good batch of crops are, their evaluation, hints and Data Docs.

It does not hold what follows from a broken rule (tasks/) or files of quarantine (cropline/intake). Only gx.py imports
Great Expectations.
"""
