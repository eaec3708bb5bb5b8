"""The parts that the steps are built of. No Prefect, Fugue or Great Expectations here: only cli.py may call flows."""
