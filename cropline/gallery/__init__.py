"""The gallery: web pages over the catalogue, for people who want to look at crops. It writes nothing but thumbnails.

Not here: fetching photos (the command line passes a function) and reports of runs (cropline.reports).
"""
