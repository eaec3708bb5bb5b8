"""One module per Prefect deployment. Flows only wire tasks together.

A flow's docstring is its runbook: the Prefect UI shows it.
"""
