"""The crop job on an engine of one's choice: choosing, planning, shipping code, one module an engine."""
