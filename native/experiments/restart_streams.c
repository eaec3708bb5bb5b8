/* Makes a JPEG of only some restart intervals of a JPEG: no entropy-coded bit is read.
 *
 * Intervals must be whole MCU rows, or a whole number of them must make up an MCU row; otherwise it returns 0.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int big(const uint8_t *at) { return at[0] << 8 | at[1]; }

struct layout {
  size_t frame, entropy;
  int interval, columns, rows;
};

static int take_header(const uint8_t *data, size_t size, struct layout *layout) {
  for (size_t at = 2; at + 18 < size && data[at] == 0xFF; at += 2 + (size_t)big(data + at + 2)) {
    int marker = data[at + 1];
    if (marker == 0xDD) layout->interval = big(data + at + 4);
    if (marker == 0xC0) {
      int across = 8 * (data[at + 9] == 1 ? 1 : data[at + 11] >> 4), down = 8 * (data[at + 9] == 1 ? 1 : data[at + 11] & 15);
      layout->frame = at;
      layout->columns = (big(data + at + 7) + across - 1) / across;
      layout->rows = (big(data + at + 5) + down - 1) / down;
    }
    if (marker == 0xDA) {
      layout->entropy = at + 2 + (size_t)big(data + at + 2);
      return layout->entropy < size && layout->frame && layout->interval ? 0 : -1;
    }
  }
  return -1;
}

/* Start of each interval, and the end of the last one without its marker. A stored table would save this search. */
static int find_intervals(const uint8_t *data, size_t size, size_t at, size_t *starts, size_t count) {
  size_t found = 0;
  starts[found++] = at;
  for (;;) {
    const uint8_t *mark = memchr(data + at, 0xFF, size - at);
    if (mark == NULL || mark + 1 >= data + size) return -1;
    at = (size_t)(mark - data) + 2;
    if (mark[1] == 0) continue;
    if (found > count) return -1;
    starts[found] = at;
    if (mark[1] == 0xD9) return found == count ? 0 : -1;
    if (mark[1] != 0xD0 + (found - 1) % 8) return -1;
    found++;
  }
}

/* MCU columns [left, right) of the MCU rows [rows[2i], rows[2i + 1]), as a JPEG of width x height px. */
size_t restart_stream(const uint8_t *data, size_t size, int left, int right, const int *rows, int bands, int width,
                      int height, uint8_t *out, size_t capacity) {
  struct layout layout = {0};
  if (capacity < size + 64 || take_header(data, size, &layout)) return 0;
  int total = layout.columns * layout.rows, each = layout.interval, columns = layout.columns;
  if (each % columns ? columns % each || left % each || (right % each && right != columns) : left != 0 || right != columns)
    return 0;
  size_t count = (size_t)((total + each - 1) / each), length = layout.entropy, number = 0;
  size_t *starts = malloc((count + 1) * sizeof *starts);
  if (starts == NULL || find_intervals(data, size, layout.entropy, starts, count)) return free(starts), 0;
  memcpy(out, data, layout.entropy);
  out[layout.frame + 5] = (uint8_t)(height >> 8), out[layout.frame + 6] = (uint8_t)height;
  out[layout.frame + 7] = (uint8_t)(width >> 8), out[layout.frame + 8] = (uint8_t)width;
  for (int band = 0; band < bands; band++) {
    int step = each > columns ? each / columns : 1;
    for (int row = rows[2 * band]; row < rows[2 * band + 1]; row += step) {
      size_t first = (size_t)(row * columns + left) / (size_t)each;
      size_t last = (size_t)(row * columns + (right - 1)) / (size_t)each;
      for (size_t i = first; i <= last; i++) {
        size_t bytes = starts[i + 1] - starts[i];
        memcpy(out + length, data + starts[i], bytes);
        length += bytes;
        out[length - 1] = (uint8_t)(0xD0 + number++ % 8);
      }
    }
  }
  free(starts);
  out[length - 1] = 0xD9;
  return length;
}
