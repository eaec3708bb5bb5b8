"""A simulated camera API: shelf and cooler photos that are drawn, not taken, and faults that are switched on by name.

Two readers: ``make demo`` polls it as if it were a vendor, and the integration tests start it as a fixture.
cropline never imports it, and it imports nothing of cropline.

settings    what one simulated API is told at its start
products    the invented products and brands
art         the flat print of a label
packs       one product as a cut-out: bottle, can, carton, box, bag, jar, tub
layout      which products stand where, and the boxes that follow from it
shelves     a layout painted as a photo
pictures    photos as JPEG files: EXIF, the cache on disk, drawing ahead in several processes
world       stores, cameras, captures, and how they change
faults      what can go wrong, and what cropline is expected to make of it
spoil       the bytes and rows that a fault breaks
simulation  all of the above as one thing that answers questions
models      the shapes on the wire, as the API's documentation shows them
app         the API as its vendor would publish it
images      what a photo's address answers, faults included
control     the other side: time, changes, faults, the access log
access_log  what was asked for and what went out
server      the API in a process of its own, for tests and scripts
"""
