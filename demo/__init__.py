"""A simulated camera API: drawn shelf and cooler photos, and faults that are switched on by name.

``make demo`` polls it like a vendor's API, and the integration tests start it as a fixture.
cropline never imports it, and it imports nothing of cropline.

settings    the settings of one simulated API
products    the invented products and brands
art         the flat print of a label
packs       one product as a cut-out: bottle, can, carton, box, bag, jar, tub
layout      which products are where, and their boxes
shelves     paints a layout as a photo
pictures    photos as JPEG files: EXIF, the cache on disk, drawing ahead in several processes
world       stores, cameras, captures, and how they change
faults      the faults, and what cropline should do about each
spoil       breaks bytes and rows for a fault
simulation  combines all of the above
models      the JSON models, as the API's documentation shows them
app         the API as its vendor would publish it
images      responses for photos, faults included
control     the control routes: time, changes, faults, the access log
access_log  the requests and what was sent
server      the API in a separate process, for tests and scripts
"""
