"""Settings, one module a group. Nothing else reads the environment."""
