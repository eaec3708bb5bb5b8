/* JPEGs cut out of a JPEG's bits: see _cut.c. */
#ifndef CUT_H
#define CUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jpeglib.h>

struct cutter;

/* A rectangle of a picture: MCUs [left, right) x [top, bottom), of which the first width x height pixels are the picture. */
struct cut {
  uint32_t left, top, right, bottom, width, height;
};

/* Finds the MCUs of the first `rows` rows. `photo`: its header was read; `scan`, `end`: its bytes from there on.
 * NULL where it is not for this, is corrupt, or memory is short. May add codes to the photo's DC tables, by which the
 * cuts have to be decoded. */
struct cutter *cutter_open(struct jpeg_decompress_struct *photo, const uint8_t *scan, const uint8_t *end, uint32_t rows);

/* The rectangle as a JPEG without tables: they are the photo's. It stays until the next one is cut. NULL: it cannot be cut. */
const uint8_t *cutter_cut(struct cutter *cutter, const struct cut *cut, size_t *length);

void cutter_close(struct cutter *cutter);

#endif
