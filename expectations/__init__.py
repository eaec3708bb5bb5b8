"""Expectations: what a good manifest and a good batch of crops are, their evaluation, hints and Data Docs.

It does not hold the reaction to a broken rule (tasks/) or quarantine files (cropline/intake). Only gx.py imports
Great Expectations.
"""
