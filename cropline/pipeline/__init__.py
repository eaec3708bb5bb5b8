"""What the steps of one run share: the run, its counts, the outcomes of a batch, the reuse of crops."""
