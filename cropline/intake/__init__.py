"""From the API's items to manifests: sources, the mapping of fields, manifests, quarantine and the stores table.

Not here: the checks that decide which rows are bad (expectations), and making work items of a manifest (state).
"""
