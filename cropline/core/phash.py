"""The form of a photo's perceptual hash: what it looks like in a few letters, the same when it was re-encoded or re-scaled.

Belongs here: the form, which its maker (fugue_jobs/imaging/photo_hash.py) and its reader (drift/near_duplicates.py) share. A grid of
CELLS x CELLS lies over the upright photo; row by row each cell is a letter: the mean luma of what boxes cover of it, in 64
steps from dark to bright, or UNKNOWN where boxes cover less than half. Two photos are as far apart as the root mean square
of the differences in the cells that both know.
"""

CELLS = 16  # a side
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
UNKNOWN = "."
