"""What stands on the Prefect server besides flows: deployments, their limits, and automations.

Belongs here: putting them there, again and again with the same result. Does not: any step or flow. prefect.yaml says what the
deployments are; the YAML files beside this one say what the automations are.

    python -m automations.deploy    all of it: checks prefect.yaml, work pool, rate limit, deployments, zombies.yaml
    python -m automations FILE ...  automations only, created or updated by their names
"""
