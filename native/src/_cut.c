/* Cuts JPEGs out of a JPEG at bit level: nothing is dequantised, transformed or recoded except a few DC differences.
 *
 * A walk over the entropy-coded bits finds where each MCU begins and the DC predictors there. It steps over several
 * symbols at a time, and from several places at once (_lanes.c), which takes a quarter of libjpeg's skipping. A rectangle
 * of MCUs is then a separate JPEG: the bits of its rows one after the other. In each row the first MCU's DC differences
 * are corrected for the end of the row before. libjpeg decodes headers and pixels.
 *
 * The bytes are hostile. The bits are in separate memory, followed by zeros that no MCU can reach past, and each MCU
 * must end before them. Every table covers every index that can be formed. No more MCUs are recorded than the bits can
 * hold. put() and copy() write a cut; they know where its memory ends.
 *
 * Whatever libjpeg would warn of is refused: invalid codes, too many coefficients, lost or early restarts, excess bytes,
 * a marker, a missing end. libjpeg then decides about the photo. Below the wanted rows only markers are checked.
 */
#include "_huffman.h" /* first: it chooses what the system's headers have */

#include <stdlib.h>
#include <string.h>

#include "_cut.h"
#include "_lanes.h"

#define MCUS (1 << 22)    /* 256 megapixels of grey, and 64 MB of records */
/* A block is one code of up to 16 bits with 11 extra bits, and 63 codes with 15. The reader is at most two words of
 * 8 bytes ahead. */
#define SLACK (BLOCKS * (27 + 63 * 31) / 8 + 32 + LANE_SLACK)
#define CUT_HEADER 64     /* the most bytes of a cut before its bits */

/* The place in a block of each coefficient of a table in a file. */
static const uint8_t ZIGZAG[DCTSIZE2] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

struct dc_codes {
  uint16_t code[SIZES];
  uint8_t length[SIZES];
};

struct component {
  uint8_t id, sampling, quantisation, dc, ac; /* dc, ac: table numbers */
};

struct cutter {
  int components, blocks;
  struct component component[COMPONENTS];
  uint8_t owner[BLOCKS]; /* the component of each block of an MCU */
  struct scan scan;
  struct huffman dc[NUM_HUFF_TBLS], ac[NUM_HUFF_TBLS];
  struct dc_codes codes[NUM_HUFF_TBLS];
  uint32_t columns, rows, all_rows, interval; /* in MCUs; rows: those to walk */
  uint8_t *bits; /* without stuffing and markers */
  uint64_t bit_count;
  uint32_t *restarts, restart_count; /* the first byte after each restart */
  struct mcu *mcus; /* one more for the end */
  uint8_t *out;
  size_t capacity;
};

/* ---- tables ---- */

/* Corrected DC differences may have sizes that an optimised table lacks. So codes for all sizes are appended to the
 * table; its own codes stay unchanged. */
static int complete(JHUFF_TBL *table) {
  int known = 0, count = 0, code = 0, last = 1, missing = 0;
  for (int length = 1; length <= 16; length++) {
    if (table->bits[length]) last = length;
    for (int i = 0; i < table->bits[length]; i++, count++)
      if (table->huffval[count] < SIZES) known |= 1 << table->huffval[count];
  }
  for (int size = 0; size < SIZES; size++) missing += !(known >> size & 1);
  if (missing == 0) return 0;
  for (int length = 1; length <= last; length++) code = (code + table->bits[length]) << (length < last);
  /* No code may be all ones. */
  while (code + missing >= 1 << last) {
    if (++last > 16) return -1;
    code <<= 1;
  }
  if (count + missing > 256 || table->bits[last] + missing > 255) return -1;
  table->bits[last] = (UINT8)(table->bits[last] + missing);
  for (int size = 0; size < SIZES; size++)
    if (!(known >> size & 1)) table->huffval[count++] = (UINT8)size;
  return 0;
}

static void take_codes(struct dc_codes *codes, const JHUFF_TBL *from) {
  int code = 0, index = 0;
  for (int length = 1; length <= 16; length++, code <<= 1)
    for (int i = 0; i < from->bits[length]; i++, index++, code++) {
      int size = from->huffval[index];
      if (size >= SIZES) continue;
      codes->code[size] = (uint16_t)code;
      codes->length[size] = (uint8_t)length;
    }
}

static int take_tables(struct cutter *cutter, struct jpeg_decompress_struct *photo) {
  unsigned taken_dc = 0, taken_ac = 0;
  for (int i = 0; i < cutter->components; i++) {
    int dc = photo->comp_info[i].dc_tbl_no, ac = photo->comp_info[i].ac_tbl_no;
    if (dc < 0 || dc >= NUM_HUFF_TBLS || ac < 0 || ac >= NUM_HUFF_TBLS) return -1;
    JHUFF_TBL *dc_table = photo->dc_huff_tbl_ptrs[dc], *ac_table = photo->ac_huff_tbl_ptrs[ac];
    if (dc_table == NULL || ac_table == NULL) return -1;
    cutter->component[i].dc = (uint8_t)dc;
    cutter->component[i].ac = (uint8_t)ac;
    if (!(taken_dc >> dc & 1)) {
      if (derive(&cutter->dc[dc], dc_table) || complete(dc_table)) return -1;
      take_codes(&cutter->codes[dc], dc_table);
    }
    if (!(taken_ac >> ac & 1)) {
      if (derive(&cutter->ac[ac], ac_table)) return -1;
      derive_many(&cutter->ac[ac]);
    }
    taken_dc |= 1u << dc;
    taken_ac |= 1u << ac;
  }
  return 0;
}

static int take_frame(struct cutter *cutter, const struct jpeg_decompress_struct *photo, uint32_t rows) {
  int alone = photo->num_components == 1;
  cutter->components = photo->num_components;
  if (cutter->components > COMPONENTS || photo->comps_in_scan != cutter->components) return -1;
  if (photo->Ss != 0 || photo->Se != DCTSIZE2 - 1 || photo->Ah != 0 || photo->Al != 0) return -1;
  for (int i = 0; i < cutter->components; i++) {
    const jpeg_component_info *from = &photo->comp_info[i];
    struct component *component = &cutter->component[i];
    if (photo->cur_comp_info[i] != from || from->component_id < 0 || from->component_id > 255) return -1;
    component->id = (uint8_t)from->component_id;
    component->sampling = (uint8_t)(from->h_samp_factor << 4 | from->v_samp_factor);
    component->quantisation = (uint8_t)from->quant_tbl_no;
    /* A scan of one component is not interleaved: its factors have no effect. */
    for (int block = alone ? 1 : from->h_samp_factor * from->v_samp_factor; block > 0; block--) {
      if (cutter->blocks == BLOCKS) return -1;
      cutter->owner[cutter->blocks++] = (uint8_t)i;
    }
  }
  uint32_t across = (uint32_t)DCTSIZE * (alone ? 1u : (uint32_t)photo->max_h_samp_factor);
  uint32_t down = (uint32_t)DCTSIZE * (alone ? 1u : (uint32_t)photo->max_v_samp_factor);
  cutter->columns = (photo->image_width + across - 1) / across;
  cutter->all_rows = (photo->image_height + down - 1) / down;
  cutter->rows = rows < cutter->all_rows ? rows : cutter->all_rows;
  cutter->interval = photo->restart_interval;
  return cutter->columns == 0 || cutter->rows == 0 ? -1 : 0;
}

/* ---- bits ---- */

/* The entropy-coded bytes up to the end marker, without stuffing. Restarts must be in order and complete. */
static int unstuff(struct cutter *cutter, const uint8_t *at, const uint8_t *end) {
  uint64_t all = (uint64_t)cutter->columns * cutter->all_rows;
  uint64_t expected = cutter->interval ? (all - 1) / cutter->interval : 0;
  /* A restart takes two bytes. Bit positions have 32 bits. */
  if (expected > (uint64_t)(end - at) / 2 || (uint64_t)(end - at) > UINT32_MAX / 8 - SLACK) return -1;
  cutter->bits = malloc((size_t)(end - at) + SLACK);
  cutter->restarts = malloc(((size_t)expected + 1) * sizeof *cutter->restarts);
  if (cutter->bits == NULL || cutter->restarts == NULL) return -1;
  uint8_t *out = cutter->bits;
  for (;;) {
    const uint8_t *mark = memchr(at, 0xFF, (size_t)(end - at));
    if (mark == NULL || end - mark < 2) return -1;
    memcpy(out, at, (size_t)(mark - at));
    out += mark - at;
    at = mark + 2;
    if (mark[1] == 0) {
      *out++ = 0xFF;
    } else if (mark[1] == JPEG_EOI) {
      break;
    } else {
      if (cutter->restart_count == expected || mark[1] != JPEG_RST0 + (cutter->restart_count & 7)) return -1;
      cutter->restarts[cutter->restart_count++] = (uint32_t)(out - cutter->bits);
    }
  }
  memset(out, 0, SLACK);
  cutter->bit_count = (uint64_t)(out - cutter->bits) * 8;
  return cutter->restart_count == expected ? 0 : -1;
}

/* ---- the walk ---- */

/* At a restart or at the end: the rest of a byte is padding; a whole byte would be excess. */
static int ends_at(uint64_t at, uint64_t byte) { return (at + 7) / 8 == byte; }

/* Where the walk is: the next MCU, and the bit behind those before it. */
struct walk {
  struct reader reader;
  uint64_t at, number, count;
  struct mcu *next;
};

/* At the end of an MCU, or at a restart. */
static inline void note(struct walk *walk, uint64_t at, const int *differences, int luma) {
  struct mcu *mcu = walk->next++;
  walk->at = at;
  mcu->at = (uint32_t)at;
  mcu->luma = luma;
  for (int i = 0; i < COMPONENTS; i++) mcu->dc[i] = (int16_t)differences[i]; /* of at most ten blocks */
}

static inline int walk_mcu(const struct scan *scan, struct walk *walk, uint64_t limit) {
  int sums[COMPONENTS] = {0}, luma = 0, block = 0;
  uint64_t second = 0;
  for (int i = 0; i < scan->components; i++) {
    if (i == 1) second = position(&walk->reader, scan->bits) - walk->at;
    for (int own = 0; own < scan->of[i]; own++, block++) {
      int difference;
      if (read_dc(&walk->reader, scan->dc[block], &difference)) return -1;
      sums[i] += difference;
      if (i == 0) luma += sums[0];
      if (skip_ac(&walk->reader, scan->ac[block])) return -1;
    }
  }
  walk->number++;
  walk->next->second = (uint16_t)second;
  note(walk, position(&walk->reader, scan->bits), sums, luma);
  return walk->at > limit ? -1 : 0;
}

/* Takes over what a lane found, if the walk is where the lane had an MCU. Returns whether the lane is of use later on. */
static int join(const struct scan *scan, struct walk *walk, const struct run *run, uint32_t *seen, uint64_t limit) {
  while (*seen < run->count && run->mcus[*seen].at < walk->at) ++*seen;
  if (*seen == run->count) return 0;
  if (run->mcus[*seen].at > walk->at) return 1;
  const struct mcu *from = &run->mcus[*seen + 1];
  uint64_t count = run->count - *seen - 1;
  if (count > walk->count - walk->number) count = walk->count - walk->number;
  while (count > 0 && from[count - 1].at > limit) count--;
  memcpy(walk->next, from, (size_t)count * sizeof *from);
  walk->next += count;
  walk->number += count;
  walk->at = walk->next[-1].at;
  walk->reader = reader_at(scan->bits, walk->at);
  return 0;
}

/* DC differences become predictors. A restart's record is followed by those of an interval. */
static int add_up(const struct cutter *cutter, const struct mcu *end) {
  int predicted[COMPONENTS] = {0};
  uint64_t left = 0;
  for (struct mcu *mcu = cutter->mcus; mcu < end; mcu++, left--) {
    if (left == 0) {
      memset(predicted, 0, sizeof predicted);
      left = cutter->interval ? cutter->interval + (uint64_t)1 : MCUS + 1;
    }
    mcu->luma += cutter->scan.of[0] * predicted[0];
    for (int i = 0; i < COMPONENTS; i++) {
      predicted[i] += mcu->dc[i];
      mcu->dc[i] = (int16_t)predicted[i];
      if (mcu->dc[i] != predicted[i]) return -1;
    }
  }
  return 0;
}

/* Where the walk is behind a restart. */
static int pass_restart(const struct cutter *cutter, struct walk *walk, uint32_t byte) {
  static const int none[COMPONENTS] = {0};
  if (!ends_at(walk->at, byte)) return -1;
  walk->reader = reader_at(cutter->bits, (uint64_t)byte * 8);
  note(walk, (uint64_t)byte * 8, none, 0);
  return 0;
}

static int walk_all(const struct cutter *cutter, struct walk *walk, const struct run runs[LANES], int lane) {
  const uint32_t *restart = cutter->restarts, *last = restart + cutter->restart_count;
  uint32_t left = cutter->interval, seen = 0;
  while (walk->number < walk->count) {
    /* No MCU reaches past the next restart, also where the walk ends before it. */
    uint64_t limit = restart < last ? (uint64_t)*restart * 8 : cutter->bit_count;
    for (; lane < LANES && !join(&cutter->scan, walk, &runs[lane], &seen, limit); lane++) seen = 0;
    if (walk->number == walk->count) break;
    if (walk_mcu(&cutter->scan, walk, limit)) return -1;
    if (restart == last || --left > 0) continue;
    if (pass_restart(cutter, walk, *restart++)) return -1;
    left = cutter->interval;
  }
  return 0;
}

static void take_scan(struct cutter *cutter) {
  struct scan *scan = &cutter->scan;
  scan->bits = cutter->bits;
  scan->components = cutter->components;
  scan->blocks = cutter->blocks;
  for (int block = 0; block < cutter->blocks; block++) {
    const struct component *component = &cutter->component[cutter->owner[block]];
    scan->of[cutter->owner[block]]++;
    scan->dc[block] = &cutter->dc[component->dc];
    scan->ac[block] = &cutter->ac[component->ac];
  }
}

static int walk(struct cutter *cutter) {
  static const int none[COMPONENTS] = {0};
  uint64_t count = (uint64_t)cutter->columns * cutter->rows;
  /* No block has less than two bits. */
  if (count > MCUS || count > cutter->bit_count / (2 * (uint64_t)cutter->blocks)) return -1;
  cutter->mcus = malloc(((size_t)count + cutter->restart_count + 2) * sizeof *cutter->mcus);
  if (cutter->mcus == NULL) return -1;
  take_scan(cutter);
  struct run runs[LANES] = {{0}};
  uint64_t wanted = cutter->bit_count * cutter->rows / cutter->all_rows;
  int alone = cutter->restart_count > 0 || run_lanes(&cutter->scan, wanted, count, runs);
  struct walk walk = {reader_at(cutter->bits, 0), 0, 0, count, cutter->mcus};
  note(&walk, 0, none, 0);
  int status = walk_all(cutter, &walk, runs, alone ? LANES : 0);
  for (int i = 0; !alone && i < LANES; i++) free(runs[i].mcus);
  if (status || add_up(cutter, walk.next)) return -1;
  return cutter->rows < cutter->all_rows || ends_at(walk.at, cutter->bit_count / 8) ? 0 : -1;
}

/* The walk alone, for the damage check (fugue_jobs/imaging/jpeg_scan.py has the same walk in Python). */
enum walked walk_bits(const uint8_t *bytes, size_t length, const JHUFF_TBL *const *dc, const JHUFF_TBL *const *ac, int blocks,
                      uint64_t wanted, uint64_t *mcus, uint64_t *bit) {
  uint8_t *bits = malloc(length + SLACK);
  struct huffman *tables = calloc((size_t)blocks * 2, sizeof *tables);
  enum walked ended = bits == NULL || tables == NULL ? WALK_NO_MEMORY : WALK_WHOLE;
  const struct huffman *derived[2 * BLOCKS] = {0};
  for (int i = 0; ended == WALK_WHOLE && i < 2 * blocks; i++) {
    const JHUFF_TBL *table = i < blocks ? dc[i] : ac[i - blocks];
    for (int other = i < blocks ? 0 : blocks; other < i && derived[i] == NULL; other++)
      if ((other < blocks ? dc[other] : ac[other - blocks]) == table) derived[i] = derived[other];
    if (derived[i] != NULL) continue;
    if (derive(&tables[i], table)) ended = WALK_BAD;
    if (i >= blocks) derive_many(&tables[i]);
    derived[i] = &tables[i];
  }
  *mcus = *bit = 0;
  if (ended == WALK_WHOLE && length < UINT32_MAX / 8) {
    memcpy(bits, bytes, length);
    memset(bits + length, 0, SLACK);
    struct reader reader = reader_at(bits, 0);
    uint64_t end = (uint64_t)length * 8;
    while (ended == WALK_WHOLE && *mcus < wanted) {
      for (int block = 0; block < blocks && ended == WALK_WHOLE; block++) {
        int difference, wrong = read_dc(&reader, derived[block], &difference) || skip_ac(&reader, derived[blocks + block]);
        uint64_t at = position(&reader, bits);
        /* An invalid code near the end means that the bits ended: codes have up to 16 bits. */
        if (wrong) ended = at + 16 > end ? WALK_SHORT : WALK_BAD;
        else if (at > end) ended = WALK_SHORT;
      }
      if (ended == WALK_WHOLE) ++*mcus, *bit = position(&reader, bits);
    }
  }
  free(bits);
  free(tables);
  return ended;
}

/* The record of where this MCU begins; the next record is where it ends. A restart has an extra record. */
static const struct mcu *noted(const struct cutter *cutter, uint64_t number) {
  return &cutter->mcus[cutter->interval ? number + number / cutter->interval : number];
}

struct cutter *cutter_open(struct jpeg_decompress_struct *photo, const uint8_t *scan, const uint8_t *end, uint32_t rows,
                           int *corrupt) {
  struct cutter *cutter = calloc(1, sizeof *cutter);
  *corrupt = 0;
  if (cutter == NULL) return NULL;
  if (take_frame(cutter, photo, rows) == 0 && take_tables(cutter, photo) == 0) {
    *corrupt = unstuff(cutter, scan, end) || walk(cutter);
    if (!*corrupt) return cutter;
  }
  cutter_close(cutter);
  return NULL;
}

void cutter_close(struct cutter *cutter) {
  if (cutter == NULL) return;
  free(cutter->bits);
  free(cutter->restarts);
  free(cutter->mcus);
  free(cutter->out);
  free(cutter);
}

/* ---- cutting ---- */

struct writer {
  uint8_t *out, *end;
  uint64_t held; /* the lower `count` bits, fewer than 8 */
  int count, full;
};

static void put(struct writer *writer, uint64_t bits, int count) { /* up to 32 bits */
  writer->held = writer->held << count | bits;
  writer->count += count;
  while (writer->count >= 8) {
    writer->count -= 8;
    if (writer->end - writer->out < 2) {
      writer->full = 1;
      continue;
    }
    uint8_t byte = (uint8_t)(writer->held >> writer->count);
    *writer->out++ = byte;
    if (byte == 0xFF) *writer->out++ = 0;
  }
}

/* Copies the bits from `at` to `end`. */
static void copy(struct writer *writer, const uint8_t *bits, uint64_t at, uint64_t end) {
  /* After a byte the writer's held bits are those before `at`, and eight bytes can be taken at once, with them. */
  int early = end - at < 8 ? (int)(end - at) : 8;
  put(writer, word_at(bits, at) >> 1 >> (63 - early), early);
  at += (uint64_t)early;
  if (end - at >= 64) {
    uint8_t *out = writer->out;
    for (at -= (uint64_t)writer->count; end - at >= 72 && writer->end - out > 16; at += 64) {
      const uint8_t *from = bits + (at >> 3);
      int shift = at & 7;
      uint64_t word = eight(from) << shift | from[8] >> (8 - shift), whole = htobe64(word);
      memcpy(out, &whole, sizeof whole);
      out += sizeof whole;
      uint64_t inverse = ~word; /* has a zero byte where a byte must be stuffed */
      if (((inverse - 0x0101010101010101u) & ~inverse & 0x8080808080808080u) == 0) continue;
      out -= sizeof whole;
      for (int left = 56; left >= 0; left -= 8)
        if ((*out++ = (uint8_t)(word >> left)) == 0xFF) *out++ = 0;
    }
    writer->out = out;
    at += (uint64_t)writer->count;
    writer->held = word_at(bits, at - 8) >> 56;
  }
  while (at < end) {
    int count = end - at > 24 ? 24 : (int)(end - at);
    put(writer, word_at(bits, at) >> (64 - count), count);
    at += (uint64_t)count;
  }
}

/* Copies the bits of an MCU and of what follows it up to `end`, with `more` added to the MCU's first DC difference of each
 * component. The second begins at `second`. */
static int put_moved(const struct cutter *cutter, struct writer *writer, uint64_t at, uint64_t second, uint64_t end,
                     const int *more) {
  struct reader reader = reader_at(cutter->bits, at);
  for (int block = 0; block < cutter->blocks; block++) {
    int index = cutter->owner[block], is_first = block == 0 || cutter->owner[block - 1] != index, difference, size = 0;
    const struct component *component = &cutter->component[index];
    const struct dc_codes *codes = &cutter->codes[component->dc];
    uint64_t begin = position(&reader, cutter->bits);
    if (read_dc(&reader, &cutter->dc[component->dc], &difference)) return -1;
    if (is_first) {
      difference += more[index];
      while (abs(difference) >> size) size++;
      if (size >= SIZES) return -1;
      copy(writer, cutter->bits, at, begin);
      put(writer, codes->code[size], codes->length[size]);
      put(writer, (uint64_t)(difference < 0 ? difference + (1 << size) - 1 : difference), size);
      at = position(&reader, cutter->bits);
      if (index == cutter->components - 1) break;
    }
    if (index == 0) {
      reader = reader_at(cutter->bits, second);
      block = cutter->scan.of[0] - 1;
      continue;
    }
    if (skip_ac(&reader, &cutter->ac[component->ac])) return -1;
  }
  copy(writer, cutter->bits, at, end);
  return 0;
}

/* MCUs [first, end) of one row, with no restart between them. `predicted`: the predictors of a decoder of the cut, before and after. */
static int put_run(const struct cutter *cutter, struct writer *writer, uint64_t first, uint64_t end, int16_t *predicted) {
  const struct mcu *begins = noted(cutter, first), *ends = noted(cutter, end - 1) + 1;
  int more[COMPONENTS];
  for (int i = 0; i < COMPONENTS; i++) more[i] = begins->dc[i] - predicted[i];
  uint64_t second = begins->at + (uint64_t)begins[1].second;
  if (put_moved(cutter, writer, begins->at, second, ends->at, more)) return -1;
  memcpy(predicted, ends->dc, sizeof ends->dc);
  return writer->full ? -1 : 0;
}

static uint8_t *put_header(const struct cutter *cutter, const struct cut *cut, uint8_t *out) {
  int count = cutter->components;
  const uint8_t frame[] = {0xFF, 0xD8, 0xFF, 0xC0, 0, (uint8_t)(8 + 3 * count), 8,
                           (uint8_t)(cut->height >> 8), (uint8_t)cut->height, (uint8_t)(cut->width >> 8),
                           (uint8_t)cut->width, (uint8_t)count};
  const uint8_t scan[] = {0xFF, 0xDA, 0, (uint8_t)(6 + 2 * count), (uint8_t)count};
  memcpy(out, frame, sizeof frame);
  out += sizeof frame;
  for (const struct component *each = cutter->component; each < cutter->component + count; each++)
    *out++ = each->id, *out++ = each->sampling, *out++ = each->quantisation;
  memcpy(out, scan, sizeof scan);
  out += sizeof scan;
  for (const struct component *each = cutter->component; each < cutter->component + count; each++)
    *out++ = each->id, *out++ = (uint8_t)(each->dc << 4 | each->ac);
  *out++ = 0, *out++ = DCTSIZE2 - 1, *out++ = 0;
  return out;
}

static uint8_t *put_segment(uint8_t *out, uint8_t marker, size_t length) {
  *out++ = 0xFF, *out++ = marker;
  *out++ = (uint8_t)((length + 2) >> 8), *out++ = (uint8_t)(length + 2);
  return out;
}

static uint8_t *put_quantisation(uint8_t *out, int number, const JQUANT_TBL *table, int *extended) {
  int wide = 0;
  for (int i = 0; i < DCTSIZE2; i++) wide |= table->quantval[i] > 255;
  *extended |= wide;
  out = put_segment(out, 0xDB, (size_t)1 + DCTSIZE2 * (wide ? 2 : 1));
  *out++ = (uint8_t)(wide << 4 | number);
  for (int i = 0; i < DCTSIZE2; i++) {
    UINT16 value = table->quantval[ZIGZAG[i]];
    if (wide) *out++ = (uint8_t)(value >> 8);
    *out++ = (uint8_t)value;
  }
  return out;
}

static uint8_t *put_huffman(uint8_t *out, int number, const JHUFF_TBL *table) {
  size_t count = 0;
  for (int length = 1; length <= 16; length++) count += table->bits[length];
  if (count > 256) return NULL;
  out = put_segment(out, 0xC4, 17 + count);
  *out++ = (uint8_t)number;
  memcpy(out, table->bits + 1, 16);
  memcpy(out + 16, table->huffval, count);
  return out + 16 + count;
}

size_t cutter_tables(const struct cutter *cutter, const struct jpeg_decompress_struct *photo, uint8_t *out, int *extended) {
  uint8_t *at = out;
  *extended = 0;
  unsigned written[3] = {0}; /* quantisation, DC, AC: a bit for each number */
  for (const struct component *each = cutter->component; each < cutter->component + cutter->components; each++) {
    if (each->quantisation >= NUM_QUANT_TBLS || photo->quant_tbl_ptrs[each->quantisation] == NULL) return 0;
    if (!(written[0] >> each->quantisation & 1))
      at = put_quantisation(at, each->quantisation, photo->quant_tbl_ptrs[each->quantisation], extended);
    *extended |= each->dc > 1 || each->ac > 1;
    if (!(written[1] >> each->dc & 1)) at = put_huffman(at, each->dc, photo->dc_huff_tbl_ptrs[each->dc]);
    if (at != NULL && !(written[2] >> each->ac & 1)) at = put_huffman(at, 0x10 | each->ac, photo->ac_huff_tbl_ptrs[each->ac]);
    if (at == NULL) return 0;
    written[0] |= 1u << each->quantisation, written[1] |= 1u << each->dc, written[2] |= 1u << each->ac;
  }
  return (size_t)(at - out);
}

static int level(const struct jpeg_decompress_struct *photo, const struct component *component, int dc) {
  /* A DC coefficient is eight times the block's mean. */
  int mean = (int)((int64_t)dc * photo->quant_tbl_ptrs[component->quantisation]->quantval[0] / DCTSIZE) + CENTERJSAMPLE;
  return mean < 0 ? 0 : mean > MAXJSAMPLE ? MAXJSAMPLE : mean;
}

int cutter_has(const struct cutter *cutter, const struct cut *cut) {
  return cut->left < cut->right && cut->top < cut->bottom && cut->right <= cutter->columns && cut->bottom <= cutter->rows;
}

void cutter_levels(const struct cutter *cutter, const struct jpeg_decompress_struct *photo, J_COLOR_SPACE space,
                   const struct cut *cut, uint8_t *out) {
  static const int of_rgb[COMPONENTS] = {299, 587, 114};
  for (uint64_t row = cut->top; row < cut->bottom; row++)
    for (uint64_t column = cut->left; column < cut->right; column++) {
      const struct mcu *end = noted(cutter, row * cutter->columns + column) + 1;
      int sum = 0;
      /* RGB is not subsampled in practice: the last block of each colour is its only one. */
      for (int i = 0; space == JCS_RGB && i < COMPONENTS; i++) sum += of_rgb[i] * level(photo, &cutter->component[i], end->dc[i]);
      *out++ = (uint8_t)(space == JCS_RGB ? (sum + 500) / 1000 : level(photo, &cutter->component[0], end->luma / cutter->scan.of[0]));
    }
}

/* Space for a cut: its bits, all of them stuffed, and the corrected differences. put() refuses what does not fit. */
static int make_room(struct cutter *cutter, const struct cut *cut) {
  uint64_t bytes = CUT_HEADER, runs = cutter->interval ? (cut->right - cut->left) / cutter->interval + 2 : 1;
  for (uint64_t row = cut->top; row < cut->bottom; row++) {
    uint64_t first = row * cutter->columns + cut->left, last = row * cutter->columns + cut->right - 1;
    bytes += 2 * (((noted(cutter, last) + 1)->at - noted(cutter, first)->at) / 8 + 16 * runs);
  }
  if (bytes <= cutter->capacity) return 0;
  free(cutter->out);
  cutter->capacity = 0;
  cutter->out = malloc((size_t)bytes);
  if (cutter->out == NULL) return -1;
  cutter->capacity = (size_t)bytes;
  return 0;
}

const uint8_t *cutter_cut(struct cutter *cutter, const struct cut *cut, size_t *length) {
  if (!cutter_has(cutter, cut)) return NULL;
  if (cut->width > 65535 || cut->height > 65535 || make_room(cutter, cut)) return NULL;
  struct writer writer = {put_header(cutter, cut, cutter->out), cutter->out + cutter->capacity, 0, 0, 0};
  int16_t predicted[COMPONENTS] = {0};
  for (uint64_t row = cut->top; row < cut->bottom; row++) {
    uint64_t at = row * cutter->columns + cut->left, end = row * cutter->columns + cut->right;
    while (at < end) {
      uint64_t stop = cutter->interval ? at - at % cutter->interval + cutter->interval : end;
      if (stop > end) stop = end;
      if (put_run(cutter, &writer, at, stop, predicted)) return NULL;
      at = stop;
    }
  }
  if (writer.count) put(&writer, (1u << (8 - writer.count)) - 1, 8 - writer.count);
  if (writer.full || writer.end - writer.out < 2) return NULL;
  *writer.out++ = 0xFF;
  *writer.out++ = JPEG_EOI;
  *length = (size_t)(writer.out - cutter->out);
  return cutter->out;
}
