"""From the API's items to manifests: reading the API, mapping, manifests, quarantine, the stores table."""
