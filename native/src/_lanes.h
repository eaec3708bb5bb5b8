/* Finds MCUs from several places of the bits at once: see _lanes.c. */
#ifndef LANES_H
#define LANES_H

#include "_huffman.h"

#define LANES 3
#define STEPS 512 /* of a lane between two looks at where it is */
/* A step takes up to 31 bits, and reads 8 bytes; a slow one reads two more words ahead. */
#define LANE_SLACK (STEPS * 31 / 8 + 32)

struct mcu {
  uint32_t at;            /* its first bit */
  int32_t luma;           /* of the MCU before it: the sum of the first component's DC values */
  int16_t dc[COMPONENTS]; /* the predictors before it; the sums of the DC differences of the MCU before it, until they are added up */
  uint16_t second;        /* of the MCU before it: bits before the second component's blocks; ten blocks have less than 2^15 */
};

/* What an MCU consists of. */
struct scan {
  const uint8_t *bits;
  int components, blocks;
  uint8_t of[COMPONENTS]; /* blocks of each component, one after the other */
  const struct huffman *dc[BLOCKS], *ac[BLOCKS];
};

/* MCUs one after the other. Of the first only the place is known; `luma` and `dc` are relative to it. */
struct run {
  struct mcu *mcus;
  uint32_t count;
};

/* Walks over about the first `wanted` bits, at most `most` MCUs of them; LANE_SLACK bytes behind them can be read. Where a
 * run has an MCU's place right, it is right from there on: but some may have none right. Returns -1 and no runs when there
 * are too few bits for it to be of use, or memory is short. Free each run's MCUs. */
int run_lanes(const struct scan *scan, uint64_t wanted, uint64_t most, struct run runs[LANES]);

#endif
