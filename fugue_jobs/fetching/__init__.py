"""One photo's bytes from one URL, safely."""
