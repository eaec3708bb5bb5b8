/* Huffman codes: tables of several at a time, and a reader of bits that steps over them. Used by _cut.c and _lanes.c. */
#ifndef HUFFMAN_H
#define HUFFMAN_H

#define _DEFAULT_SOURCE /* for endian.h */
#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#define WINDOW 12         /* bits per table lookup; longer codes take the slow path */
#define NONE DCTSIZE2     /* more coefficients than the block has left */
#define ENDS (2 * DCTSIZE2)
#define COMPONENTS 3
#define BLOCKS D_MAX_BLOCKS_IN_MCU
#define SIZES 12          /* a DC difference of 8-bit samples has 0 to 11 bits */

struct huffman {
  int32_t limit[17], first[17]; /* per length: end of its codes, left-aligned to 16 bits; index of its first code minus that code */
  uint8_t values[256];
  uint16_t one[1 << WINDOW];  /* a symbol: length | value << 5; 0: a longer or invalid code */
  uint16_t many[1 << WINDOW]; /* AC symbols: coefficients, plus ENDS if the last ends the block, or NONE | bits << 8 */
};

/* ---- tables ---- */

static inline int derive(struct huffman *table, const JHUFF_TBL *from) {
  int32_t code = 0, index = 0;
  memcpy(table->values, from->huffval, sizeof table->values);
  for (int length = 1; length <= 16; length++) {
    table->first[length] = index - code;
    for (int i = 0; i < from->bits[length]; i++, index++, code++) {
      if (index > 255 || code >= 1 << length) return -1;
      if (length > WINDOW) continue;
      for (int rest = 0; rest < 1 << (WINDOW - length); rest++)
        table->one[code << (WINDOW - length) | rest] = (uint16_t)(length | from->huffval[index] << 5);
    }
    table->limit[length] = code << (16 - length);
    code <<= 1;
  }
  return 0;
}

static inline int ends_block(int value) { return (value & 15) == 0 && value != 0xF0; }

/* As many whole AC symbols as have their codes within the window from bit `used` on, where the block has `advance`
 * coefficients; the extra bits of the last may extend past it. What they add to both, as in `many`. */
static inline int many_of(const struct huffman *table, int window, int used, int advance) {
  int before = advance | used << 8;
  while (used < WINDOW && advance < ENDS) {
    int one = table->one[window << used & ((1 << WINDOW) - 1)];
    int length = one & 31, value = one >> 5, more = ends_block(value) ? ENDS : (value >> 4) + 1;
    if (one == 0 || used + length > WINDOW || (more < ENDS && advance + more >= DCTSIZE2)) break;
    used += length + (value & 15);
    advance += more;
  }
  return (advance | used << 8) - before;
}

static inline void derive_many(struct huffman *table) {
  for (int window = 0; window < 1 << WINDOW; window++) {
    int many = many_of(table, window, 0, 0);
    table->many[window] = (uint16_t)(many ? many : NONE);
  }
}

/* ---- bits ---- */

static inline uint64_t eight(const uint8_t *at) {
  uint64_t word;
  memcpy(&word, at, sizeof word);
  return be64toh(word);
}

/* The bits from this one on, left-aligned; 57 of them. */
static inline uint64_t word_at(const uint8_t *bits, uint64_t at) { return eight(bits + (at >> 3)) << (at & 7); }

struct reader {
  const uint8_t *next;
  uint64_t held; /* bits of the stream, left-aligned; at least the first `count` are valid */
  int count;
};

/* At least 56 bits are valid afterwards. The load does not depend on a table lookup, which limits the walk's speed. */
static inline void refill(struct reader *reader) {
  reader->held |= eight(reader->next) >> reader->count;
  reader->next += (63 - reader->count) >> 3;
  reader->count |= 56;
}

static inline void consume(struct reader *reader, int bits) {
  reader->held <<= bits;
  reader->count -= bits;
}

static struct reader reader_at(const uint8_t *bits, uint64_t at) {
  struct reader reader = {bits + (at >> 3), 0, 0};
  refill(&reader);
  consume(&reader, (int)(at & 7));
  return reader;
}

static inline uint64_t position(const struct reader *reader, const uint8_t *bits) {
  return (uint64_t)(reader->next - bits) * 8 - (uint64_t)reader->count;
}

/* length | value << 5; 0: no code */
static inline int symbol(const struct huffman *table, uint64_t word) {
  int one = table->one[word >> (64 - WINDOW)];
  if (one) return one;
  int32_t code = (int32_t)(word >> 48);
  for (int length = WINDOW + 1; length <= 16; length++)
    if (code < table->limit[length])
      return length | table->values[((code >> (16 - length)) + table->first[length]) & 255] << 5;
  return 0;
}

/* The number that these bits of this size say. */
static inline int extended(int value, int size) { return value < (1 << size) >> 1 ? value - (1 << size) + 1 : value; }

static inline int read_dc(struct reader *reader, const struct huffman *table, int *difference) {
  refill(reader);
  int one = symbol(table, reader->held), size = one >> 5;
  if (one == 0 || size >= SIZES) return -1;
  consume(reader, one & 31);
  *difference = extended((int)(reader->held >> 1 >> (63 - size)), size);
  consume(reader, size);
  return 0;
}

/* A step over whole symbols. It needs 12 valid bits and uses at most 27. STEP_SLOWLY: the block may end within the
 * step, or the code is long. */
enum { STEP_ON, STEP_END, STEP_SLOWLY };

static inline int step(struct reader *reader, const struct huffman *table, int *k) {
  int many = table->many[reader->held >> (64 - WINDOW)], after = *k + (many & 255);
  if (after < DCTSIZE2) {
    consume(reader, many >> 8);
    *k = after;
    return STEP_ON;
  }
  if (after < ENDS || after >= ENDS + DCTSIZE2) return STEP_SLOWLY;
  consume(reader, many >> 8);
  return STEP_END;
}

static inline int skip_ac(struct reader *reader, const struct huffman *table) {
  int k = 1;
  while (k < DCTSIZE2) {
    int how = step(reader, table, &k);
    if (how == STEP_END) return 0;
    refill(reader);
    if (how == STEP_ON) how = step(reader, table, &k);
    if (how == STEP_END) return 0;
    if (how == STEP_ON) continue;
    refill(reader);
    int one = symbol(table, reader->held), value = one >> 5;
    if (one == 0) return -1;
    consume(reader, (one & 31) + (value & 15));
    if (ends_block(value)) return 0;
    k += (value >> 4) + 1;
    refill(reader);
  }
  return k == DCTSIZE2 ? 0 : -1;
}

#endif
