"""What a good manifest and a good catalogue are, as expectations. Only gx.py imports Great Expectations."""
