"""From a photo's bytes to its crops: headers, decoding, geometry, colour, encoding."""
