"""What is unusual in a manifest or a batch, against the source's own past: warnings that never block. Imports no Great Expectations."""
