/* Brightness and sharpness of pixels in memory. fugue_jobs/imaging/measure.py defines them by Pillow's steps and takes those
 * where there is no such memory: so every number here must be Pillow's, bit for bit.
 */
#include "_measure.h"

#include <stdlib.h>
#include <string.h>

#define MEASURED 64 /* px: the largest side of a sample and of a window */
#define MOST 65535  /* px: of a side */

/* A rectangle of pixels with four bytes each: red, green, blue, unused. */
struct pixels {
  const uint8_t *first;
  size_t stride, width, height;
};

/* A picture of one byte a pixel. */
struct levels {
  uint8_t *first;
  size_t stride, width, height;
};

/* ITU-R 601-2 in 16 bits, as Pillow converts RGB to L. */
static inline uint8_t luma(const uint8_t *rgb) {
  return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

static inline size_t at_most(size_t side, size_t limit) { return side < limit ? side : limit; }

/* The pixel in the middle of each cell. Exact, as Pillow's sums of doubles are for a grid that is a power of two. */
static inline size_t place(size_t cell, size_t cells, size_t side) { return (2 * cell + 1) * side / (2 * cells); }

/* Writes the luma of a regular grid of min(side, grid) pixels a side, row by row: Pillow's NEAREST, then its "L". */
static void sample_luma(const struct pixels *pixels, size_t grid, uint8_t *out) {
  size_t across = at_most(pixels->width, grid), down = at_most(pixels->height, grid);
  size_t columns[MEASURED];
  for (size_t x = 0; x < across; x++) columns[x] = 4 * place(x, across, pixels->width);
  for (size_t y = 0; y < down; y++) {
    const uint8_t *row = pixels->first + place(y, down, pixels->height) * pixels->stride;
    for (size_t x = 0; x < across; x++) *out++ = luma(row + columns[x]);
  }
}

/* ---- Pillow's resampling of one byte a pixel, by its box filter ---- */

#define PRECISION 22 /* bits of a weight after the point */

struct span { /* the pixels of which one pixel is the mean */
  size_t first, count;
  int weight;
};

/* In doubles and in this order as Pillow computes them, since a weight is 0 or 1 by a comparison. */
static void find_spans(size_t size, float begin, float end, size_t wanted, struct span *spans) {
  double scale = (double)(end - begin) / (double)wanted, filter = scale < 1.0 ? 1.0 : scale, support = 0.5 * filter;
  for (size_t i = 0; i < wanted; i++) {
    double centre = begin + ((double)i + 0.5) * scale;
    long long first = (long long)(centre - support + 0.5), last = (long long)(centre + support + 0.5);
    if (first < 0) first = 0;
    if (last > (long long)size) last = (long long)size;
    struct span *span = &spans[i];
    *span = (struct span){0, 0, 0};
    for (long long at = first; at < last; at++) {
      double place = ((double)at - centre + 0.5) * (1.0 / filter);
      if (!(place > -0.5 && place <= 0.5)) continue;
      if (span->count++ == 0) span->first = (size_t)at;
    }
    if (span->count) span->weight = (int)(0.5 + 1.0 / (double)span->count * (1 << PRECISION));
  }
}

static uint8_t mean_of_span(const struct span *span, const uint8_t *from, size_t step) {
  int sum = 1 << (PRECISION - 1);
  from += span->first * step;
  for (size_t i = 0; i < span->count; i++) sum += from[i * step] * span->weight;
  sum >>= PRECISION;
  return (uint8_t)(sum > 255 ? 255 : sum);
}

/* Shrinks or enlarges these edges (left, top, right, bottom) of a picture to another one. Returns -1 where memory is short. */
static int resize_levels(const struct levels *from, const float *edges, const struct levels *to) {
  struct span *across = malloc((to->width + to->height) * sizeof *across), *down = across + to->width;
  uint8_t *between = malloc(from->height * to->width);
  int status = across == NULL || between == NULL ? -1 : 0;
  if (status == 0) {
    find_spans(from->width, edges[0], edges[2], to->width, across);
    find_spans(from->height, edges[1], edges[3], to->height, down);
    for (size_t y = 0; y < from->height; y++)
      for (size_t x = 0; x < to->width; x++)
        between[y * to->width + x] = mean_of_span(&across[x], from->first + y * from->stride, 1);
    for (size_t y = 0; y < to->height; y++)
      for (size_t x = 0; x < to->width; x++)
        to->first[y * to->stride + x] = mean_of_span(&down[y], between + x, to->width);
  }
  free(across);
  free(between);
  return status;
}

/* The mean of these levels, row by row as Pillow's BOX to one pixel of "F". */
static double mean_of(const uint8_t *levels, size_t width, size_t height) {
  double sum = 0.0, across = 1.0 / (double)width, down = 1.0 / (double)height;
  for (size_t y = 0; y < height; y++) {
    double row = 0.0;
    for (size_t x = 0; x < width; x++) row += *levels++ * across;
    sum += (float)row * down;
  }
  return (float)sum;
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

/* ---- Python's side ---- */

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
    sample_luma(&pixels, grid, sample);
    answer = Py_BuildValue("y#dK", (const char *)sample, (Py_ssize_t)(across * down), mean_of(sample, across, down),
                           middle_edges(&pixels, window));
  }
  PyBuffer_Release(&memory);
  return answer;
}

/* The levels of a picture of this size; -1: they are more or fewer. */
static int take_levels(const Py_buffer *from, Py_ssize_t width, Py_ssize_t height, struct levels *levels) {
  *levels = (struct levels){from->buf, (size_t)width, (size_t)width, (size_t)height};
  if (width > 0 && height > 0 && width <= MOST && height <= MOST &&
      levels->width * levels->height == (size_t)from->len)
    return 0;
  PyErr_SetString(PyExc_ValueError, "the levels are not of this size");
  return -1;
}

PyObject *py_mean(PyObject *self, PyObject *args) {
  (void)self;
  Py_buffer from = {0};
  PyObject *answer = NULL;
  Py_ssize_t width, height;
  struct levels levels;
  if (!PyArg_ParseTuple(args, "y*(nn)", &from, &width, &height)) return NULL;
  if (take_levels(&from, width, height, &levels) == 0)
    answer = PyFloat_FromDouble(mean_of(levels.first, levels.width, levels.height));
  PyBuffer_Release(&from);
  return answer;
}

PyObject *py_resize(PyObject *self, PyObject *args) {
  (void)self;
  Py_buffer from = {0};
  PyObject *answer = NULL;
  Py_ssize_t width, height, across, down;
  float edges[4];
  struct levels levels, to;
  if (!PyArg_ParseTuple(args, "y*(nn)(ffff)(nn)", &from, &width, &height, &edges[0], &edges[1], &edges[2], &edges[3], &across, &down))
    return NULL;
  if (take_levels(&from, width, height, &levels) == 0) {
    if (across <= 0 || down <= 0 || across > MOST || down > MOST || !(0 <= edges[0]) ||
        !(edges[0] < edges[2]) || !(edges[2] <= (float)width) || !(0 <= edges[1]) || !(edges[1] < edges[3]) ||
        !(edges[3] <= (float)height)) {
      PyErr_SetString(PyExc_ValueError, "the edges are not in the picture, or the size is empty");
    } else if ((answer = PyBytes_FromStringAndSize(NULL, across * down)) != NULL) {
      to = (struct levels){(uint8_t *)PyBytes_AS_STRING(answer), (size_t)across, (size_t)across, (size_t)down};
      if (resize_levels(&levels, edges, &to) != 0) {
        Py_CLEAR(answer);
        PyErr_NoMemory();
      }
    }
  }
  PyBuffer_Release(&from);
  return answer;
}

/* Resizes one patch into its place in both pictures of side x side px. */
static int put_patch(PyObject *item, size_t side, uint8_t *luma, uint8_t *seen) {
  Py_buffer from = {0};
  Py_ssize_t left, top, right, bottom, width, height;
  struct levels levels;
  int status = -1;
  if (!PyTuple_Check(item)) PyErr_SetString(PyExc_TypeError, "a patch is a tuple");
  else if (PyArg_ParseTuple(item, "(nnnn)y*(nn)", &left, &top, &right, &bottom, &from, &width, &height)) {
    if (take_levels(&from, width, height, &levels) == 0) {
      if (left < 0 || top < 0 || left >= right || top >= bottom || (size_t)right > side || (size_t)bottom > side) {
        PyErr_SetString(PyExc_ValueError, "a patch is empty or not in the picture");
      } else {
        float edges[4] = {0, 0, (float)width, (float)height};
        uint8_t *first = luma + (size_t)top * side + (size_t)left;
        struct levels to = {first, side, (size_t)(right - left), (size_t)(bottom - top)};
        status = resize_levels(&levels, edges, &to);
        if (status != 0) PyErr_NoMemory();
        for (Py_ssize_t y = top; y < bottom; y++) memset(seen + (size_t)y * side + left, 255, to.width);
      }
    }
    PyBuffer_Release(&from);
  }
  return status;
}

PyObject *py_patchwork(PyObject *self, PyObject *args) {
  (void)self;
  PyObject *patches, *luma = NULL, *seen = NULL;
  Py_ssize_t side;
  if (!PyArg_ParseTuple(args, "nO!", &side, &PyList_Type, &patches)) return NULL;
  if (side < 1 || side > 4096) {
    PyErr_SetString(PyExc_ValueError, "the side is 1 to 4096");
    return NULL;
  }
  int status = -1;
  luma = PyBytes_FromStringAndSize(NULL, side * side);
  seen = PyBytes_FromStringAndSize(NULL, side * side);
  if (luma != NULL && seen != NULL) {
    memset(PyBytes_AS_STRING(luma), 0, (size_t)(side * side));
    memset(PyBytes_AS_STRING(seen), 0, (size_t)(side * side));
    status = 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyList_GET_SIZE(patches); i++) {
      PyObject *patch = Py_NewRef(PyList_GET_ITEM(patches, i));
      status = put_patch(patch, (size_t)side, (uint8_t *)PyBytes_AS_STRING(luma), (uint8_t *)PyBytes_AS_STRING(seen));
      Py_DECREF(patch);
    }
  }
  PyObject *answer = status == 0 ? PyTuple_Pack(2, luma, seen) : NULL;
  Py_XDECREF(luma);
  Py_XDECREF(seen);
  return answer;
}
