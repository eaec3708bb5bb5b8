"""Settings proposed for an unknown API: from one page of it, by names and value ranges, and by a few more requests.

Every proposal has its evidence and says whether it is certain. The rules are fixed: the same answers give the same
proposals. Not here: asking the user, and writing the file.
"""
