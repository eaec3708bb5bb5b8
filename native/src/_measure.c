/* Brightness and sharpness of pixels in memory. fugue_jobs/imaging/measure.py defines them by Pillow's steps and takes those
 * where there is no such memory: so every number here must be Pillow's, bit for bit.
 */
#include "_measure.h"

#define MEASURED 64 /* px: the largest side of a sample and of a window */
#define MOST 65535  /* px: of a side */

/* A rectangle of pixels with four bytes each: red, green, blue, unused. */
struct pixels {
  const uint8_t *first;
  size_t stride, width, height;
};

/* ITU-R 601-2 in 16 bits, as Pillow converts RGB to L. */
static inline uint8_t luma(const uint8_t *rgb) {
  return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

static inline size_t at_most(size_t side, size_t limit) { return side < limit ? side : limit; }

/* The pixel in the middle of each cell. Pillow sums up doubles: they are exact for a grid that is a power of two. */
static inline size_t place(size_t cell, size_t cells, size_t side) { return (2 * cell + 1) * side / (2 * cells); }

/* Writes the luma of a regular grid of min(side, grid) pixels a side, row by row: Pillow's NEAREST, then its "L". Returns
 * its sum. */
static unsigned long sample_luma(const struct pixels *pixels, size_t grid, uint8_t *out) {
  unsigned long sum = 0;
  size_t across = at_most(pixels->width, grid), down = at_most(pixels->height, grid);
  size_t columns[MEASURED];
  for (size_t x = 0; x < across; x++) columns[x] = 4 * place(x, across, pixels->width);
  for (size_t y = 0; y < down; y++) {
    const uint8_t *row = pixels->first + place(y, down, pixels->height) * pixels->stride;
    for (size_t x = 0; x < across; x++) sum += *out++ = luma(row + columns[x]);
  }
  return sum;
}

unsigned long long edges_of(const uint8_t *levels, size_t stride, size_t width, size_t height) {
  unsigned long long sum = 0;
  for (size_t y = 1; y + 1 < height; y++) {
    const uint8_t *row = levels + y * stride;
    unsigned of_row = 0;
    for (size_t x = 1; x + 1 < width; x++) {
      const uint8_t *at = row + x;
      int edge = at[-1] + at[1] + *(at - stride) + at[stride] - 4 * *at;
      edge = edge < -128 ? -128 : edge > 127 ? 127 : edge;
      of_row += (unsigned)(edge * edge);
    }
    sum += of_row;
  }
  return sum;
}

/* The sum of squares of the Laplacian of the luma in the middle, of min(side, window) pixels a side; 0 for less than
 * 3 x 3 px. */
static unsigned long long middle_edges(const struct pixels *pixels, size_t window) {
  size_t width = at_most(pixels->width, window), height = at_most(pixels->height, window);
  if (width < 3 || height < 3) return 0;
  uint8_t levels[MEASURED * MEASURED];
  const uint8_t *from = pixels->first + (pixels->height - height) / 2 * pixels->stride + (pixels->width - width) / 2 * 4;
  for (size_t y = 0; y < height; y++, from += pixels->stride)
    for (size_t x = 0; x < width; x++) levels[y * width + x] = luma(from + 4 * x);
  return edges_of(levels, width, width, height);
}

/* Whether all of these pixels are in memory of this length. */
static int are_inside(const Py_buffer *memory, size_t first, const struct pixels *pixels) {
  size_t length = (size_t)memory->len, row = 4 * pixels->width;
  if (pixels->width == 0 || pixels->height == 0 || pixels->width > MOST || pixels->height > MOST)
    return 0;
  return row <= pixels->stride && pixels->stride <= length && first <= length && row <= length - first &&
         pixels->height - 1 <= (length - first - row) / pixels->stride;
}

PyObject *py_measure(PyObject *self, PyObject *args) {
  (void)self;
  Py_buffer memory = {0};
  PyObject *answer = NULL;
  Py_ssize_t first, stride, width, height;
  unsigned int grid, window;
  if (!PyArg_ParseTuple(args, "y*nn(nn)II", &memory, &first, &stride, &width, &height, &grid, &window)) return NULL;
  /* What is negative becomes too large. */
  struct pixels pixels = {NULL, (size_t)stride, (size_t)width, (size_t)height};
  if (!are_inside(&memory, (size_t)first, &pixels) || grid == 0 || grid > MEASURED || window > MEASURED) {
    PyErr_SetString(PyExc_ValueError, "the pixels are not in the memory, or the grid or the window has more than 64 px");
  } else {
    uint8_t sample[MEASURED * MEASURED];
    size_t across = pixels.width < grid ? pixels.width : grid, down = pixels.height < grid ? pixels.height : grid;
    pixels.first = (const uint8_t *)memory.buf + first;
    unsigned long sum = sample_luma(&pixels, grid, sample);
    answer = Py_BuildValue("y#kK", (const char *)sample, (Py_ssize_t)(across * down), sum, middle_edges(&pixels, window));
  }
  PyBuffer_Release(&memory);
  return answer;
}
