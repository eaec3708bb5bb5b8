"""Puts deployments, limits and automations on the Prefect server. Doing it again changes nothing.

prefect.yaml holds the deployments, the YAML files beside this module the automations. Flows and tasks are elsewhere.

    python -m automations.deploy    everything: checks prefect.yaml; work pool, rate limit, deployments, zombies.yaml
    python -m automations FILE ...  automations only, created or updated by their names
"""
