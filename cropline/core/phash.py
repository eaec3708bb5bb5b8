"""The format of a photo's perceptual hash, which hardly changes when the photo is re-encoded or rescaled.

A grid of CELLS x CELLS covers the upright photo. Row by row, one letter per cell is the mean luma of the area that
boxes cover, in 64 steps from dark to bright; UNKNOWN means that boxes cover less than half of the cell.
"""

CELLS = 16  # per side
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
UNKNOWN = "."
