"""Servers of other clouds on this machine, for the tests."""
