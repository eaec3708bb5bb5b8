/* Cuts JPEGs out of a JPEG at bit level: nothing is dequantised, transformed or recoded except a few DC differences.
 *
 * One walk over the entropy-coded bits finds where each MCU begins and the DC predictors there. It steps over several
 * symbols at a time. A rectangle of MCUs is then a separate JPEG: the bits of its rows one after the other. In each row
 * the first MCU's DC differences are corrected for the end of the row before.
 *
 * An experiment: baseline, one interleaved scan, no restarts; otherwise splice_open returns NULL. It was not fuzzed.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 12        /* bits per table lookup; longer codes take the slow path */
#define SLACK 8192       /* zero bytes after the bits, more than one MCU can take */
#define COMPONENTS 3

struct huffman {
  int known;
  uint8_t lengths[17], values[256];
  uint16_t code[256]; /* per value; its length is 0 where it has none */
  uint8_t length[256];
  int32_t limit[18], first[17]; /* per length: left-aligned end of its codes; index of its first code minus that code */
  uint32_t one[1 << WINDOW];    /* one symbol: length | value << 8; 0: a longer code */
  uint16_t many[1 << WINDOW];   /* AC: bits | coefficients << 5 | ends << 11; 0: a longer code */
};

struct component {
  int id, across, down, dc, ac;
};

struct splice {
  const uint8_t *data;
  size_t scan; /* start of the scan's header */
  size_t scan_end, frame;
  int width, height, components, mcu_width, mcu_height, columns, rows, blocks;
  struct component component[COMPONENTS];
  uint8_t block_component[10];
  struct huffman dc[4], ac[4];
  uint8_t *bits; /* without stuffing */
  uint64_t bit_count;
  uint32_t *start;               /* of each MCU, in bits, and of the end */
  int16_t (*dc_before)[COMPONENTS]; /* the predictors there */
};

/* ---- tables ---- */

static int derive(struct huffman *table) {
  int code = 0, index = 0;
  for (int length = 1; length <= 16; length++) {
    table->first[length] = index - code;
    for (int i = 0; i < table->lengths[length]; i++, index++, code++) {
      if (index > 255 || code >= 1 << length) return -1;
      int value = table->values[index];
      table->code[value] = (uint16_t)code;
      table->length[value] = (uint8_t)length;
      if (length <= WINDOW)
        for (int rest = 0; rest < 1 << (WINDOW - length); rest++)
          table->one[code << (WINDOW - length) | rest] = (uint32_t)(length | value << 8);
    }
    table->limit[length] = code << (16 - length);
    code <<= 1;
  }
  table->known = 1;
  return 0;
}

/* As many whole AC symbols as begin and have their codes within the window; the last one's bits may extend past it. */
static void derive_many(struct huffman *table) {
  for (int window = 0; window < 1 << WINDOW; window++) {
    int used = 0, coefficients = 0, ends = 0;
    while (used < WINDOW && !ends) {
      uint32_t one = table->one[window << used & ((1 << WINDOW) - 1)];
      int length = one & 255, value = (int)(one >> 8);
      if (one == 0 || used + length > WINDOW || coefficients + (value >> 4) + 1 > 63) break;
      if ((value & 15) == 0 && value != 0xF0) ends = 1;
      used += length + (value & 15);
      if (!ends) coefficients += (value >> 4) + 1;
    }
    table->many[window] = (uint16_t)(used | coefficients << 5 | ends << 11);
  }
}

/* ---- bits ---- */

struct reader {
  const uint8_t *bits;
  uint64_t at;
};

static inline uint64_t peek(const struct reader *reader) { /* at least 57 bits, left-aligned */
  uint64_t word;
  memcpy(&word, reader->bits + (reader->at >> 3), 8);
  return __builtin_bswap64(word) << (reader->at & 7);
}

/* length | value << 8; 0: no code */
static inline uint32_t symbol(const struct huffman *table, uint64_t word) {
  uint32_t one = table->one[word >> (64 - WINDOW)];
  if (one) return one;
  int32_t code = (int32_t)(word >> 48);
  for (int length = WINDOW + 1; length <= 16; length++)
    if (code < table->limit[length])
      return (uint32_t)(length | table->values[(code >> (16 - length)) + table->first[length]] << 8);
  return 0;
}

static inline int extend(uint64_t word, int size) {
  if (size == 0) return 0;
  int value = (int)(word >> (64 - size));
  return value < 1 << (size - 1) ? value - (1 << size) + 1 : value;
}

static int read_dc(struct reader *reader, const struct huffman *table, int *difference) {
  uint64_t word = peek(reader);
  uint32_t one = symbol(table, word);
  int length = one & 255, size = (int)(one >> 8);
  if (one == 0 || size > 11) return -1;
  *difference = extend(word << length, size);
  reader->at += (uint64_t)(length + size);
  return 0;
}

/* A step over whole symbols of one block; 0 where the block may end within it or a code is long. */
static inline int step(const struct huffman *table, uint64_t word, int *k, int *used) {
  uint32_t many = table->many[word >> (64 - WINDOW)];
  int after = *k + (int)(many >> 5 & 63);
  if (many == 0 || after > 63) return 0;
  *used = many & 31;
  *k = many >> 11 ? 64 : after;
  return 1;
}

static int skip_ac(struct reader *reader, const struct huffman *table) {
  int k = 1, used;
  while (k < 64) {
    uint64_t word = peek(reader);
    if (step(table, word, &k, &used)) {
      reader->at += (uint64_t)used;
      /* One step takes at most 27 bits: enough are left for another. */
      if (k < 64 && step(table, word << used, &k, &used)) reader->at += (uint64_t)used;
      continue;
    }
    uint32_t one = symbol(table, word);
    int value = (int)(one >> 8);
    if (one == 0) return -1;
    reader->at += (one & 255) + (value & 15);
    if ((value & 15) == 0 && value != 0xF0) return 0;
    k += (value >> 4) + 1;
  }
  return k == 64 ? 0 : -1;
}

struct writer {
  uint8_t *out, *end;
  uint64_t held; /* the lower `count` bits */
  int count;
};

static void put(struct writer *writer, uint64_t bits, int count) { /* up to 32 bits */
  writer->held = writer->held << count | bits;
  writer->count += count;
  while (writer->count >= 8) {
    uint8_t byte = (uint8_t)(writer->held >> (writer->count - 8));
    if (writer->out + 2 > writer->end) return;
    *writer->out++ = byte;
    if (byte == 0xFF) *writer->out++ = 0;
    writer->count -= 8;
  }
}

static void copy(struct writer *writer, struct reader *reader, uint64_t end) {
  while (end - reader->at >= 56 && writer->end - writer->out > 16) {
    uint64_t word = peek(reader) >> 8; /* 56 bits */
    uint64_t whole = word << 8 >> writer->count; /* the upper 56 bits are written */
    if (writer->count) whole |= writer->held << (64 - writer->count);
    uint64_t inverse = ~whole | 0xFF; /* has a zero byte where a byte must be stuffed */
    if (((inverse - 0x0101010101010101u) & ~inverse & 0x8080808080808080u) == 0) {
      uint64_t big = __builtin_bswap64(whole);
      memcpy(writer->out, &big, 8);
      writer->out += 7;
      writer->held = word;
    } else {
      put(writer, word >> 28, 28);
      put(writer, word & 0xFFFFFFF, 28);
    }
    reader->at += 56;
  }
  while (reader->at < end) {
    int count = end - reader->at > 24 ? 24 : (int)(end - reader->at);
    put(writer, peek(reader) >> (64 - count), count);
    reader->at += (uint64_t)count;
  }
}

/* ---- reading the header ---- */

static int big(const uint8_t *at) { return at[0] << 8 | at[1]; }

static int take_tables(struct splice *splice, const uint8_t *at, const uint8_t *end) {
  while (end - at >= 17) {
    struct huffman *table = at[0] >> 4 ? &splice->ac[at[0] & 3] : &splice->dc[at[0] & 3];
    int count = 0;
    memset(table, 0, sizeof *table);
    for (int length = 1; length <= 16; length++) count += table->lengths[length] = at[length];
    if (count > 256 || end - at < 17 + count) return -1;
    memcpy(table->values, at + 17, (size_t)count);
    if (derive(table)) return -1;
    if (at[0] >> 4) derive_many(table);
    at += 17 + count;
  }
  return 0;
}

static int take_frame(struct splice *splice, const uint8_t *at, int length) {
  splice->components = at[5];
  if (at[0] != 8 || (at[5] != 1 && at[5] != 3) || length < 6 + 3 * at[5]) return -1;
  splice->height = big(at + 1);
  splice->width = big(at + 3);
  int widest = 1, highest = 1;
  for (int i = 0; i < splice->components; i++) {
    struct component *component = &splice->component[i];
    component->id = at[6 + 3 * i];
    component->across = splice->components == 1 ? 1 : at[7 + 3 * i] >> 4;
    component->down = splice->components == 1 ? 1 : at[7 + 3 * i] & 15;
    if (component->across < 1 || component->down < 1) return -1;
    if (component->across > widest) widest = component->across;
    if (component->down > highest) highest = component->down;
    for (int block = 0; block < component->across * component->down; block++) {
      if (splice->blocks == 10) return -1;
      splice->block_component[splice->blocks++] = (uint8_t)i;
    }
  }
  if (splice->width == 0 || splice->height == 0) return -1;
  splice->mcu_width = 8 * widest;
  splice->mcu_height = 8 * highest;
  splice->columns = (splice->width + splice->mcu_width - 1) / splice->mcu_width;
  splice->rows = (splice->height + splice->mcu_height - 1) / splice->mcu_height;
  return 0;
}

static int take_scan(struct splice *splice, const uint8_t *at, int length) {
  if (length < 4 + 2 * splice->components || at[0] != splice->components || splice->components == 0) return -1;
  for (int i = 0; i < splice->components; i++) {
    struct component *component = &splice->component[i];
    if (at[1 + 2 * i] != component->id) return -1;
    component->dc = at[2 + 2 * i] >> 4 & 3;
    component->ac = at[2 + 2 * i] & 3;
    if (!splice->dc[component->dc].known || !splice->ac[component->ac].known) return -1;
  }
  return 0;
}

static int take_header(struct splice *splice, const uint8_t *data, size_t size) {
  size_t at = 2;
  while (at + 4 <= size && data[at] == 0xFF) {
    int marker = data[at + 1], length = big(data + at + 2) - 2;
    if (length < 0 || at + 4 + (size_t)length > size) return -1;
    const uint8_t *body = data + at + 4;
    if (marker == 0xC4 && take_tables(splice, body, body + length)) return -1;
    if (marker == 0xC0) splice->frame = at;
    if (marker == 0xC0 && (length < 6 || take_frame(splice, body, length))) return -1;
    if (marker == 0xDD && length >= 2 && big(body) != 0) return -1;
    if (marker > 0xC0 && marker < 0xD0 && marker != 0xC4 && marker != 0xC8 && marker != 0xCC) return -1;
    if (marker == 0xDA) {
      splice->scan = at;
      splice->scan_end = at + 4 + (size_t)length;
      return take_scan(splice, body, length);
    }
    at += 4 + (size_t)length;
  }
  return -1;
}

static int unstuff(struct splice *splice, const uint8_t *at, const uint8_t *end) {
  splice->bits = malloc((size_t)(end - at) + SLACK);
  if (splice->bits == NULL) return -1;
  uint8_t *out = splice->bits;
  for (;;) {
    const uint8_t *mark = memchr(at, 0xFF, (size_t)(end - at));
    if (mark == NULL || mark + 1 >= end || (mark[1] != 0 && mark[1] != 0xD9)) return -1;
    size_t plain = (size_t)(mark - at);
    memcpy(out, at, plain);
    out += plain;
    if (mark[1] == 0xD9) break;
    *out++ = 0xFF;
    at = mark + 2;
  }
  splice->bit_count = (uint64_t)(out - splice->bits) * 8;
  memset(out, 0, SLACK);
  return splice->bit_count > UINT32_MAX ? -1 : 0;
}

/* Finds where each MCU begins, down to `rows`. Every crop pays for this. */
static int walk(struct splice *splice, int rows) {
  size_t count = (size_t)splice->columns * (size_t)rows;
  splice->start = malloc((count + 1) * sizeof *splice->start);
  splice->dc_before = malloc((count + 1) * sizeof *splice->dc_before);
  if (splice->start == NULL || splice->dc_before == NULL) return -1;
  struct reader reader = {splice->bits, 0};
  int16_t predicted[COMPONENTS] = {0};
  for (size_t mcu = 0; mcu < count; mcu++) {
    splice->start[mcu] = (uint32_t)reader.at;
    memcpy(splice->dc_before[mcu], predicted, sizeof predicted);
    for (int block = 0; block < splice->blocks; block++) {
      const struct component *component = &splice->component[splice->block_component[block]];
      int difference;
      if (read_dc(&reader, &splice->dc[component->dc], &difference)) return -1;
      predicted[splice->block_component[block]] += (int16_t)difference;
      if (skip_ac(&reader, &splice->ac[component->ac])) return -1;
    }
    if (reader.at > splice->bit_count) return -1;
  }
  splice->start[count] = (uint32_t)reader.at;
  memcpy(splice->dc_before[count], predicted, sizeof predicted);
  return 0;
}

void splice_close(struct splice *splice) {
  if (splice == NULL) return;
  free(splice->bits);
  free(splice->start);
  free(splice->dc_before);
  free(splice);
}

/* `bottom`: pixels below it are never wanted; 0: the whole picture. */
struct splice *splice_open(const uint8_t *data, size_t size, int bottom, int *mcu_size) {
  struct splice *splice = calloc(1, sizeof *splice);
  if (splice == NULL) return NULL;
  splice->data = data;
  if (size < 4 || take_header(splice, data, size) || unstuff(splice, data + splice->scan_end, data + size)) {
    splice_close(splice);
    return NULL;
  }
  if (bottom > 0 && bottom < splice->height) splice->rows = (bottom + splice->mcu_height - 1) / splice->mcu_height;
  if (walk(splice, splice->rows)) {
    splice_close(splice);
    return NULL;
  }
  mcu_size[0] = splice->mcu_width;
  mcu_size[1] = splice->mcu_height;
  return splice;
}

/* ---- cutting ---- */

/* The photo's tables and frame for this size, without comments and APPn except JFIF's and Adobe's. */
static uint8_t *put_header(const struct splice *splice, int width, int height, uint8_t *out, const uint8_t *end) {
  const uint8_t *data = splice->data;
  if ((size_t)(end - out) < splice->scan_end) return NULL;
  *out++ = 0xFF;
  *out++ = 0xD8;
  for (size_t at = 2; at < splice->scan_end; at += 2 + (size_t)big(data + at + 2)) {
    int marker = data[at + 1];
    size_t length = 2 + (size_t)big(data + at + 2);
    if (marker == 0xFE || (marker > 0xE0 && marker < 0xEE) || marker == 0xEF) continue;
    memcpy(out, data + at, length);
    if (at == splice->frame) {
      out[5] = (uint8_t)(height >> 8), out[6] = (uint8_t)height;
      out[7] = (uint8_t)(width >> 8), out[8] = (uint8_t)width;
    }
    out += length;
  }
  return out;
}

/* Copies the MCU's bits, with `more` added to its first DC difference of each component. */
static int put_moved(const struct splice *splice, struct writer *writer, struct reader *reader, int *more) {
  for (int block = 0; block < splice->blocks; block++) {
    int index = splice->block_component[block], difference, size = 0;
    const struct huffman *table = &splice->dc[splice->component[index].dc];
    if (read_dc(reader, table, &difference)) return -1;
    difference += more[index];
    more[index] = 0;
    for (int rest = abs(difference); rest; rest >>= 1) size++;
    if (size > 11 || table->length[size] == 0) return -1;
    put(writer, table->code[size], table->length[size]);
    if (size) put(writer, (uint64_t)(difference < 0 ? difference + (1 << size) - 1 : difference), size);
    struct reader ac = *reader;
    if (skip_ac(reader, &splice->ac[splice->component[index].ac])) return -1;
    copy(writer, &ac, reader->at);
  }
  return 0;
}

/* MCUs [left, right) x [top, bottom) as a JPEG of width x height px. Returns its length, or 0. */
size_t splice_cut(const struct splice *splice, int left, int top, int right, int bottom, int width, int height,
                  uint8_t *out, size_t capacity) {
  if (left < 0 || top < 0 || left >= right || top >= bottom || right > splice->columns || bottom > splice->rows) return 0;
  struct writer writer = {put_header(splice, width, height, out, out + capacity), out + capacity, 0, 0};
  if (writer.out == NULL) return 0;
  int16_t predicted[COMPONENTS] = {0};
  for (int row = top; row < bottom; row++) {
    size_t first = (size_t)row * (size_t)splice->columns + (size_t)left, last = first + (size_t)(right - left);
    struct reader reader = {splice->bits, splice->start[first]};
    int more[COMPONENTS], moved = 0;
    for (int i = 0; i < COMPONENTS; i++) moved |= more[i] = splice->dc_before[first][i] - predicted[i];
    if (moved && put_moved(splice, &writer, &reader, more)) return 0;
    copy(&writer, &reader, splice->start[last]);
    memcpy(predicted, splice->dc_before[last], sizeof predicted);
  }
  if (writer.count) put(&writer, (1u << (8 - writer.count)) - 1, 8 - writer.count);
  if (writer.end - writer.out < 24) return 0;
  *writer.out++ = 0xFF;
  *writer.out++ = 0xD9;
  return (size_t)(writer.out - out);
}
