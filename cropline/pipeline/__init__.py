"""What the steps of one run share: the run, its counts, its heartbeat, the outcomes of a batch, the reuse of crops.

It holds no step (tasks/) and no crop code (fugue_jobs/).
"""
