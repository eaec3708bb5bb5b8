"""Backfills and replays: which work items are to be done, in which order, and what that costs.

It holds planning, estimates and their reports. It does not execute: planned work items are registered, claimed,
cropped and committed by the same steps as polled ones (tasks/).

    request.py   the options of a run
    listings.py  where photos are announced: pages of the API, or landed manifests
    remapping.py quarantined rows, mapped again
    choose.py    which announced rows count: the window, and the newest good version of each photo
    classify.py  what is to be done with each work item, from the state table
    plan.py      the work items in order, cut into slices within the limits
    cost.py      time, calls, bytes and PUTs
    estimate.py  what a run with a plan and limits would do
    progress.py  how far a run is
    report.py    plans and progress as Markdown
"""
