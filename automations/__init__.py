"""Puts deployments, limits and automations on the Prefect server. Repeating it changes nothing.

prefect.yaml has the deployments, the YAML files beside it the automations. Flows and tasks are elsewhere.

    python -m automations.deploy    everything: checks prefect.yaml; work pool, rate limit, deployments, zombies.yaml
    python -m automations FILE ...  automations only, created or updated by name
"""
