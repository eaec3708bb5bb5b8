"""What a good manifest and a good crop catalogue are. Great Expectations lives here, and is imported only by gx.py."""
