"""Figures for monitoring: a Prometheus exporter over the state database and the catalogue. It writes nothing.

Not here: the figures of one run (cropline.reports) and of Prefect itself (its own exporter).
"""
