"""Runs a new or changed profile beside the current one on the same photos, and compares the crops.

It stores nothing and knows neither the state table nor the catalogue: the command chooses the photos.
"""
