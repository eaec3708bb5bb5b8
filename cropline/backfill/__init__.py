"""Backfills and replays: which works are wanted again or at last, in which order, and what that costs.

Belongs here: planning, as far as it needs neither Prefect nor Great Expectations. Does not: doing it; planned works are
registered, claimed, cropped and committed by the same steps as polled ones.

    request.py   what may be asked for
    listings.py    where photos are announced: pages of the API, or landed manifests
    choose.py    which announced rows count: the window, the newest good version of each photo
    classify.py  what the state table says of each work, and so what is to be done with it and why
    plan.py      the works in their order, cut into slices under the limits
    cost.py  time, calls, bytes and PUTs
"""
