"""Crop processes: feeding them, what each does, storing and packing its crops."""
