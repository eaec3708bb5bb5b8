/* Walks over Huffman codes from several places of the bits at once, in one thread.
 *
 * A walk waits for its own table look-ups: where a code begins is known when the one before it was looked up. So several
 * walks, step by step in turns, take hardly longer than one. Only the first begins at an MCU. The others begin anywhere,
 * and fall into step by themselves: a wrong walk sooner or later comes to where an MCU begins, with the block and the
 * coefficient right, and everything that follows is then the same. That takes a few MCUs. The caller comes from
 * the front and finds out where: the places must be the same.
 *
 * A step has no branch that depends on the bits, except the one for long codes, which is rare: a wrong guess of the
 * processor would stop all walks. So DC differences are not read here but after each chunk of steps.
 *
 * A lane that finds an invalid code begins again a bit later, and what it had is dropped. If the code is the photo's own, the
 * caller comes to it too.
 */
#include "_lanes.h"

#include <stdlib.h>

/* Fewer bits for each lane are not worth the tables. The sanitizers' tests have small pictures. */
#ifdef GUARDED
#define LEAST 256
#else
#define LEAST (1 << 17)
#endif

#define ROOM (STEPS + BLOCKS + 2)

struct lane {
  uint64_t state;        /* the bit | coefficients of the current block that are passed, ENDS behind the last */
  uint64_t block;        /* its number, from a whole MCU on */
  uint64_t begins[ROOM]; /* states: of the blocks up to the current one */
  struct run run;
  uint32_t capacity;
};

/* What all lanes read, and the lanes. `first`: the table of a block's first step, which begins with the DC code, `others`:
 * of the others; as struct huffman's `many`, and those of an MCU again and again. */
struct course {
  struct lane lanes[LANES];
  const uint16_t *first[ROOM], *others[ROOM];
  const struct scan *scan;
  uint16_t tables[COMPONENTS][1 << WINDOW];
  int16_t differences[COMPONENTS][1 << WINDOW];
};

#define AT(state) ((state) >> 8)
#define LOST UINT64_MAX

/* As derive_many, from the DC code on. */
static void derive_first(const struct huffman *dc, const struct huffman *ac, uint16_t *first) {
  for (int window = 0; window < 1 << WINDOW; window++) {
    int one = dc->one[window], used = (one & 31) + (one >> 5), entry = 1 | used << 8;
    if (one == 0 || one >> 5 >= SIZES) entry = NONE;
    else if (used < WINDOW) entry += many_of(ac, window, used, 1);
    first[window] = (uint16_t)entry;
  }
}

/* DC differences whose code and value fit into the window: twice the difference and 1; 0: they do not. */
static void derive_differences(const struct huffman *dc, int16_t *differences) {
  for (int window = 0; window < 1 << WINDOW; window++) {
    int one = dc->one[window], length = one & 31, size = one >> 5;
    int rest = WINDOW - length - size; /* bits behind it */
    differences[window] = (int16_t)(one && rest >= 0 ? 2 * extended(window >> rest & ((1 << size) - 1), size) + 1 : 0);
  }
}

static void prepare(struct course *course, const struct scan *scan) {
  int block = 0;
  course->scan = scan;
  for (int i = 0; i < scan->components; i++) {
    derive_first(scan->dc[block], scan->ac[block], course->tables[i]);
    derive_differences(scan->dc[block], course->differences[i]);
    for (int own = 0; own < scan->of[i]; own++, block++) {
      course->first[block] = course->tables[i];
      course->others[block] = scan->ac[block]->many;
    }
  }
  for (int i = block; i < ROOM; i++) course->first[i] = course->first[i - block], course->others[i] = course->others[i - block];
}

/* One symbol, from the state before the step. Returns that behind it, or LOST. */
static __attribute__((noinline)) uint64_t step_slowly(const struct course *course, uint64_t state, uint64_t block) {
  const struct scan *scan = course->scan;
  struct reader reader = reader_at(scan->bits, AT(state));
  int passed = state & 255, difference;
  block %= (uint64_t)scan->blocks;
  if (passed == 0) {
    if (read_dc(&reader, scan->dc[block], &difference)) return LOST;
    return position(&reader, scan->bits) << 8 | 1;
  }
  refill(&reader);
  int one = symbol(scan->ac[block], reader.held), value = one >> 5;
  if (one == 0) return LOST;
  consume(&reader, (one & 31) + (value & 15));
  passed += (value >> 4) + 1;
  if (ends_block(value) || passed == DCTSIZE2) passed = ENDS;
  return passed > DCTSIZE2 && passed != ENDS ? LOST : position(&reader, scan->bits) << 8 | (uint64_t)passed;
}

/* A lane in registers. */
struct walker {
  uint64_t state, word, block;
  const uint16_t *table;
};

#define INLINE static inline __attribute__((always_inline))

INLINE struct walker opened(const struct course *course, const struct lane *lane) {
  const uint16_t *const *tables = lane->state & 255 ? course->others : course->first;
  return (struct walker){lane->state, 0, lane->block, tables[lane->block]};
}

INLINE void closed(const struct walker *walker, struct lane *lane) {
  lane->state = walker->state;
  lane->block = walker->block;
}

/* At least 57 bits of the word are the stream's: two steps look at 12 each, and take up to 27. */
INLINE void step_lane(const struct course *course, struct lane *lane, struct walker *walker) {
  const uint16_t *others = course->others[walker->block], *next = course->first[walker->block + 1];
  uint64_t entry = walker->table[walker->word >> (64 - WINDOW)], after = walker->state + entry;
  walker->word <<= entry >> 8;
  if (__builtin_expect((after & DCTSIZE2) != 0, 0)) { /* the block may end within the step, or the code is long */
    after = step_slowly(course, walker->state, walker->block);
    if (after == LOST) {
      after = (AT(walker->state) + 1) << 8;
      lane->run.count = 0;
      lane->begins[0] = after;
      walker->block = 0;
      others = course->first[0];
    }
    walker->word = word_at(course->scan->bits, AT(after));
  }
  uint64_t ends = after / ENDS & 1;
  lane->begins[walker->block + 1] = after;
  walker->block += ends;
  walker->state = after & ((ends - 1) | ~(uint64_t)255);
  walker->table = __builtin_expect_with_probability((long)ends, 1, 0.5) ? next : others;
}

static __attribute__((noinline)) void step_lanes(struct course *course) {
  const uint8_t *bits = course->scan->bits;
  struct lane *lanes = course->lanes;
  struct walker a = opened(course, &lanes[0]), b = opened(course, &lanes[1]), c = opened(course, &lanes[2]);
  for (int step = 0; step < STEPS; step += 2) {
    a.word = word_at(bits, AT(a.state));
    b.word = word_at(bits, AT(b.state));
    c.word = word_at(bits, AT(c.state));
    step_lane(course, &lanes[0], &a);
    step_lane(course, &lanes[1], &b);
    step_lane(course, &lanes[2], &c);
    step_lane(course, &lanes[0], &a);
    step_lane(course, &lanes[1], &b);
    step_lane(course, &lanes[2], &c);
  }
  closed(&a, &lanes[0]);
  closed(&b, &lanes[1]);
  closed(&c, &lanes[2]);
}

INLINE int difference_at(const int16_t *differences, const struct huffman *dc, const uint8_t *bits, uint64_t at) {
  uint64_t word = word_at(bits, at);
  int found = differences[word >> (64 - WINDOW)];
  if (found) return found >> 1;
  int one = symbol(dc, word), size = one >> 5;
  return extended((int)(word << (one & 31) >> 1 >> (63 - size)), size);
}

/* Notes the whole MCUs among the lane's blocks. */
static void gather(const struct course *course, struct lane *lane) {
  const struct scan *scan = course->scan;
  const uint64_t *begins = lane->begins, blocks = (uint64_t)scan->blocks;
  if (lane->run.count == 0) lane->run.mcus[lane->run.count++] = (struct mcu){.at = (uint32_t)AT(begins[0])};
  for (; lane->block >= blocks; lane->block -= blocks) {
    struct mcu *mcu = &lane->run.mcus[lane->run.count++];
    const struct huffman *const *dc = scan->dc;
    mcu->second = (uint16_t)(AT(begins[scan->of[0]]) - AT(begins[0]));
    for (int i = 0; i < COMPONENTS; i++) {
      int sum = 0, sums = 0;
      for (int own = 0; own < scan->of[i]; own++)
        sums += sum += difference_at(course->differences[i], *dc++, scan->bits, AT(*begins++));
      mcu->dc[i] = (int16_t)sum; /* of ten blocks, with 11 bits each */
      if (i == 0) mcu->luma = sums;
    }
    mcu->at = (uint32_t)AT(*begins);
  }
  memmove(lane->begins, begins, (lane->block + 1) * sizeof *begins);
}

static int open_lane(struct lane *lane, uint64_t at, uint64_t share, uint64_t most, int blocks) {
  /* No block has less than two bits; each step may end one. */
  uint64_t room = (share + LANE_SLACK * 8) / (2 * (uint64_t)blocks);
  lane->state = lane->begins[0] = at << 8;
  lane->block = 0;
  lane->capacity = (uint32_t)(room < most ? room : most) + STEPS + 2;
  lane->run.count = 0;
  lane->run.mcus = malloc(lane->capacity * sizeof *lane->run.mcus);
  return lane->run.mcus == NULL ? -1 : 0;
}

/* Until one of the lanes comes to where the next one began: all need about as many steps for as many bits. */
static void run_together(struct course *course, uint64_t share) {
  for (int on = 1; on;) {
    step_lanes(course);
    for (uint64_t i = 0; i < LANES; i++) {
      struct lane *lane = &course->lanes[i];
      gather(course, lane);
      if (i == 0 && lane->run.mcus[0].at != 0) on = 0; /* it lost its way: the photo is corrupt */
      if (AT(lane->state) >= (i + 1) * share || lane->run.count + STEPS + 2 > lane->capacity) on = 0;
    }
  }
}

/* Where all blocks have the same tables, a walk does not notice that it takes one for another. */
static int can_meet(const struct scan *scan) {
  if (scan->blocks == 1) return 1;
  for (int block = 1; block < scan->blocks; block++)
    if (scan->dc[block] != scan->dc[0] || scan->ac[block] != scan->ac[0]) return 1;
  return 0;
}

int run_lanes(const struct scan *scan, uint64_t wanted, uint64_t most, struct run runs[LANES]) {
  uint64_t share = wanted / LANES, opened = 0;
  if (share < LEAST || !can_meet(scan)) return -1;
  struct course *course = malloc(sizeof *course);
  if (course == NULL) return -1;
  while (opened < LANES && open_lane(&course->lanes[opened], opened * share, share, most, scan->blocks) == 0) opened++;
  if (opened == LANES) {
    prepare(course, scan);
    run_together(course, share);
  }
  for (uint64_t i = 0; i < opened; i++) {
    runs[i] = course->lanes[i].run;
    if (opened < LANES) free(runs[i].mcus);
  }
  free(course);
  return opened == LANES ? 0 : -1;
}
