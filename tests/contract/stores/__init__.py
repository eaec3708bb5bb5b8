"""One suite for every kind of store."""
