/* Cuts JPEGs out of a JPEG's bits: see _cut.c. */
#ifndef CUT_H
#define CUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jpeglib.h>

struct cutter;

/* A rectangle of a picture: MCUs [left, right) x [top, bottom), of which the first width x height pixels are used. */
struct cut {
  uint32_t left, top, right, bottom, width, height;
};

/* Finds the MCUs of the first `rows` rows. `photo`: its header was read; `scan`, `end`: the bytes from the scan on.
 * NULL: the photo is not supported or corrupt (then *corrupt is set), or memory is short. May add codes to the photo's
 * DC tables; the cuts must be decoded with these. */
struct cutter *cutter_open(struct jpeg_decompress_struct *photo, const uint8_t *scan, const uint8_t *end, uint32_t rows,
                           int *corrupt);

/* The rectangle as a JPEG without tables: they are the photo's. Valid until the next cut. NULL: it cannot be cut. */
const uint8_t *cutter_cut(struct cutter *cutter, const struct cut *cut, size_t *length);

#define CUT_TABLES 4096 /* more than the segments of all tables take */

/* Writes the segments of the tables that a cut needs to be a file, before its frame. Returns their length; 0: one is
 * missing. *extended: the frame is not baseline, which has 8-bit quantisation and two tables of a kind. */
size_t cutter_tables(const struct cutter *cutter, const struct jpeg_decompress_struct *photo, uint8_t *out, int *extended);

/* Whether the MCUs of the rectangle are known. */
int cutter_has(const struct cutter *cutter, const struct cut *cut);

/* Writes the mean luma of each known MCU of the rectangle, row by row, from the DC coefficients alone.
 * cutter_tables() came before. `space`: the photo's colours; RGB is weighed. */
void cutter_levels(const struct cutter *cutter, const struct jpeg_decompress_struct *photo, J_COLOR_SPACE space,
                   const struct cut *cut, uint8_t *out);

enum walked { WALK_WHOLE, WALK_SHORT, WALK_BAD, WALK_NO_MEMORY };

/* Steps over up to `wanted` MCUs in these bytes without stuffing; an MCU has this many blocks (10 at most) with their tables.
 * Returns how many were whole, the bit after them, and why it stopped: the bytes ended, or a code is invalid. */
enum walked walk_bits(const uint8_t *bytes, size_t length, const JHUFF_TBL *const *dc, const JHUFF_TBL *const *ac, int blocks,
                      uint64_t wanted, uint64_t *mcus, uint64_t *bit);

void cutter_close(struct cutter *cutter);

#endif
