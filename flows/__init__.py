"""When things happen: one file a deployment, wiring only. A flow's docstring is its runbook; the Prefect UI shows it."""
