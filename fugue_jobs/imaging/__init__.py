"""From a photo's bytes to its crops: headers, decoding, damage, geometry, colour, encoding, measures.

It imports no Arrow and does no network or store access; it runs inside crop processes (pool).
"""
