/* The part of cropline-regions that must be C: libjpeg-turbo's scanlines into memory, with the GIL released.
 *
 * It has the calls of libjpeg and the checks that keep them inside their memory. _plan.py plans the parts, __init__.py
 * owns the memory, _cut.c handles the photo's bits. It links to no libjpeg: bind() looks up the functions once in the
 * library that Pillow itself was linked with. So the pixels are Pillow's, and so are its security fixes.
 *
 * A stream is hostile. Every size is checked against its header before it determines an allocation. Every row pointer
 * is in memory of output_width times the pixel's size. libjpeg's errors return by longjmp to the one function that
 * called it, which holds nothing that could leak: struct job owns all memory, and release() frees it.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "_cut.h"
#include "_measure.h"

#if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || !defined(JCS_EXTENSIONS)
#error "the headers must be libjpeg-turbo's"
#endif

#define FUNCTIONS(X)                                                                                                 \
  X(jpeg_std_error)                                                                                                  \
  X(jpeg_CreateDecompress)                                                                                           \
  X(jpeg_mem_src)                                                                                                    \
  X(jpeg_read_header)                                                                                                \
  X(jpeg_has_multiple_scans)                                                                                         \
  X(jpeg_calc_output_dimensions)                                                                                     \
  X(jpeg_start_decompress)                                                                                           \
  X(jpeg_crop_scanline)                                                                                              \
  X(jpeg_skip_scanlines)                                                                                             \
  X(jpeg_read_coefficients)                                                                                          \
  X(jpeg_read_scanlines)                                                                                             \
  X(jpeg_abort_decompress)                                                                                           \
  X(jpeg_destroy_decompress)                                                                                         \
  X(jpeg_CreateCompress)                                                                                             \
  X(jpeg_copy_critical_parameters)                                                                                   \
  X(jpeg_write_coefficients)                                                                                         \
  X(jpeg_finish_compress)                                                                                            \
  X(jpeg_destroy_compress)

#define POINTER(name) static __typeof__(name) *lib_##name;
FUNCTIONS(POINTER)

static int bound = 0;
static PyObject *undecoded; /* the exception: (reason, detail) */

struct band { /* a rectangle of the picture */
  JDIMENSION left, top, right, bottom;
  unsigned char *pixels; /* in job->memory, after the band before it */
#ifdef GUARDED
  void *map; /* a temporary place for pixels until all bands are decoded */
  size_t length;
#endif
};

struct turn { /* of a cut by its blocks: swap x and y, then mirror x, then y */
  int swap, mirror_x, mirror_y;
  JDIMENSION width, height; /* of the turned picture */
  struct jpeg_compress_struct jpeg;
  struct jpeg_destination_mgr target;
  uint8_t *out;
  size_t capacity, length;
};

struct job {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  jmp_buf on_error;
  int warning; /* number of the last warning */
  int damage; /* number of the first warning about damaged scan data; 0: none */
  const char *reason; /* of a refusal */
  char detail[JMSG_LENGTH_MAX];
  Py_buffer data, memory; /* the JPEG, and the memory for its bands */
  JDIMENSION scale, left, width;
  JDIMENSION mcu_width, mcu_height; /* pixels at this scale */
  const unsigned char *scan; /* start of the entropy-coded bytes */
  struct cutter *cutter; /* the photo's, when its boxes are cut out */
  JDIMENSION picture_width, picture_height; /* at this scale */
  JDIMENSION photo_width, photo_height; /* at full scale, since the struct then describes a cut */
  int grey; /* of a photo in colour only the luma is decoded */
  J_COLOR_SPACE space;
  struct band *bands;
  Py_ssize_t count;
  struct turn turn;
};

/* ---- the bands' memory ---- */

#ifdef GUARDED
/* For `make sanitize`: libjpeg's code is not instrumented, and its SIMD code cannot be. An inaccessible page after each
 * band catches the first byte written past it. Tests compare the rows within a band with Pillow's. */
#include <sys/mman.h>

#define PAGE 4096u

static unsigned char *guarded(size_t size, void **map, size_t *length) {
  size_t pages = (size + PAGE - 1) / PAGE;
  *length = (pages + 2) * PAGE;
  *map = mmap(NULL, *length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (*map == MAP_FAILED) return NULL;
  unsigned char *first = (unsigned char *)*map + PAGE;
  if (mprotect(first, pages * PAGE, PROT_READ | PROT_WRITE) != 0) return NULL;
  return first + (pages * PAGE - size);
}
#endif

static int open_band(struct band *band, unsigned char *place, size_t size) {
  band->pixels = place;
#ifdef GUARDED
  band->pixels = guarded(size, &band->map, &band->length);
  if (band->pixels == NULL) {
    PyErr_NoMemory();
    return -1;
  }
#else
  (void)size;
#endif
  return 0;
}

static int close_band(struct band *band, unsigned char *place, size_t size) {
#ifdef GUARDED
  memcpy(place, band->pixels, size);
#else
  (void)band, (void)place, (void)size;
#endif
  return 0;
}

static void drop_band(struct band *band) {
#ifdef GUARDED
  if (band->map != NULL && band->map != MAP_FAILED) munmap(band->map, band->length);
#else
  (void)band;
#endif
}

/* ---- libjpeg's callbacks ---- */

static void on_error(j_common_ptr common) {
  struct job *job = common->client_data;
  job->reason = "failed";
  /* The message's number, never its text: it may quote the stream. */
  snprintf(job->detail, sizeof job->detail, "libjpeg error %d", common->err->msg_code);
  longjmp(job->on_error, 1);
}

/* Whether the last warning says that scan data is damaged. Asked by its text: the numbers differ between libraries. A file
 * that only lacks its end marker is not damaged: if scan data is missing too, a warning of this kind follows. */
static int is_damage(j_common_ptr common) {
  static const char damage[] = "Corrupt JPEG data";
  char text[JMSG_LENGTH_MAX];
  (*common->err->format_message)(common, text);
  return strncmp(text, damage, sizeof damage - 1) == 0;
}

static void on_message(j_common_ptr common, int level) {
  if (level >= 0) return;
  struct job *job = common->client_data;
  job->warning = common->err->msg_code;
  if (job->damage == 0 && is_damage(common)) job->damage = job->warning;
  common->err->num_warnings++;
}

static void on_output(j_common_ptr common) { (void)common; }

/* ---- the three steps; each returns 0, or -1 with job->reason set. They run without the GIL. ---- */

static int refuse(struct job *job, const char *reason) {
  job->reason = reason;
  return -1;
}

static int warned(struct job *job) {
  if (job->errors.num_warnings == 0) return 0;
  snprintf(job->detail, sizeof job->detail, "libjpeg warning %d", job->warning);
  return refuse(job, "corrupt");
}

/* libjpeg takes the standard tables for missing ones, but only when it starts to decode: here no walk could use them. */
static int has_tables(const struct jpeg_decompress_struct *jpeg) {
  for (int i = 0; i < jpeg->comps_in_scan; i++) {
    int dc = jpeg->cur_comp_info[i]->dc_tbl_no, ac = jpeg->cur_comp_info[i]->ac_tbl_no;
    if (dc >= 0 && dc < NUM_HUFF_TBLS && jpeg->dc_huff_tbl_ptrs[dc] == NULL) return 0;
    if (ac >= 0 && ac < NUM_HUFF_TBLS && jpeg->ac_huff_tbl_ptrs[ac] == NULL) return 0;
  }
  return 1;
}

static int acceptable(struct job *job) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  if (jpeg->arith_code) return refuse(job, "arithmetic");
  if (jpeg->data_precision != 8) return refuse(job, "precision");
  if (jpeg->min_DCT_scaled_size != DCTSIZE) return refuse(job, "lossless"); /* not scaled yet */
  if (jpeg->progressive_mode) return refuse(job, "progressive");
  if (lib_jpeg_has_multiple_scans(jpeg)) return refuse(job, "several_scans");
  if (jpeg->num_components != 1 && jpeg->num_components != 3) return refuse(job, "components");
  J_COLOR_SPACE space = jpeg->jpeg_color_space;
  if (jpeg->num_components == 1 ? space != JCS_GRAYSCALE : space != JCS_YCbCr && space != JCS_RGB)
    return refuse(job, "colour_space");
  if (!has_tables(jpeg)) return refuse(job, "tables");
  return 0;
}

/* Sets how the photo, or a cut of it, is decoded, once its header is read. */
static void choose(struct job *job) {
  job->jpeg.out_color_space = job->jpeg.num_components == 1 || job->grey ? JCS_GRAYSCALE : JCS_EXT_RGBX;
  job->jpeg.scale_num = 1;
  job->jpeg.scale_denom = job->scale;
}

/* Called below a setjmp. */
static void open_photo(struct job *job) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  jpeg->err = lib_jpeg_std_error(&job->errors);
  job->errors.error_exit = on_error;
  job->errors.emit_message = on_message;
  job->errors.output_message = on_output;
  jpeg->client_data = job;
  lib_jpeg_CreateDecompress(jpeg, JPEG_LIB_VERSION, sizeof *jpeg);
  /* It zeroes the struct except err and client_data. */
  lib_jpeg_mem_src(jpeg, job->data.buf, (unsigned long)job->data.len);
  lib_jpeg_read_header(jpeg, TRUE);
}

/* Reads the codes of every scan and computes no pixel. */
static int read_scans(struct job *job) {
  if (setjmp(job->on_error)) {
    job->damage = -1;
    return 0;
  }
  open_photo(job);
  lib_jpeg_read_coefficients(&job->jpeg);
  return 0;
}

static int read_header(struct job *job) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  if (setjmp(job->on_error)) return -1;
  open_photo(job);
  if (acceptable(job)) return -1;
  choose(job);
  lib_jpeg_calc_output_dimensions(jpeg);
  job->picture_width = jpeg->output_width;
  job->picture_height = jpeg->output_height;
  /* A scan of one component is not interleaved: its sampling factors have no effect. */
  int alone = jpeg->num_components == 1;
  job->mcu_width = DCTSIZE / job->scale * (alone ? 1 : (JDIMENSION)jpeg->max_h_samp_factor);
  job->mcu_height = DCTSIZE / job->scale * (alone ? 1 : (JDIMENSION)jpeg->max_v_samp_factor);
  return warned(job);
}

/* libjpeg widens the columns on the left to whole blocks: job->left and job->width become what it decodes. */
static int start(struct job *job) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  if (setjmp(job->on_error)) return -1;
  lib_jpeg_start_decompress(jpeg);
  job->scan = jpeg->src->next_input_byte;
  if (job->left != 0 || job->width != jpeg->output_width) lib_jpeg_crop_scanline(jpeg, &job->left, &job->width);
  if (job->width != jpeg->output_width) return refuse(job, "failed");
  return warned(job);
}

/* Whether the undecoded rest ends as it must: entropy-coded bytes and restarts up to the end marker. Another marker, or
 * none, is refused, because Pillow reads the rest too: both decoders must fail on the same photos. */
static int ends_well(const struct job *job) {
  const unsigned char *end = (const unsigned char *)job->data.buf + job->data.len;
  const unsigned char *at = end - job->jpeg.src->bytes_in_buffer;
  /* libjpeg has read ahead: it may hold bits or a marker. */
  at = at - job->scan > 32 ? at - 32 : job->scan;
  while (at > job->scan && at[-1] == 0xFF) at--;
  while (at < end && (at = memchr(at, 0xFF, (size_t)(end - at))) != NULL) {
    while (at < end && *at == 0xFF) at++;
    if (at == end) return 0;
    if (*at == 0xD9) return 1;
    if (*at != 0x00 && (*at < 0xD0 || *at > 0xD7)) return 0;
    at++;
  }
  return 0;
}

/* Decodes the band's rows; libjpeg is at the first. Under the caller's setjmp. */
static int read_rows(struct job *job, const struct band *band) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  size_t stride = (size_t)(band->right - band->left) * (size_t)jpeg->output_components;
  JDIMENSION first = jpeg->output_scanline, height = band->bottom - band->top;
  while (jpeg->output_scanline - first < height) {
    JSAMPROW rows[16];
    JDIMENSION at = jpeg->output_scanline - first, wanted = height - at;
    if (wanted > 16) wanted = 16;
    for (JDIMENSION row = 0; row < wanted; row++) rows[row] = band->pixels + (size_t)(at + row) * stride;
    JDIMENSION came = lib_jpeg_read_scanlines(jpeg, rows, wanted);
    if (came == 0 || came > wanted) return refuse(job, "failed");
    if (warned(job)) return -1;
  }
  return 0;
}

static int decode_bands(struct job *job) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  if (setjmp(job->on_error)) return -1;
  for (struct band *band = job->bands; band < job->bands + job->count; band++) {
    JDIMENSION gap = band->top - jpeg->output_scanline;
    if (gap > 0 && lib_jpeg_skip_scanlines(jpeg, gap) != gap) return refuse(job, "failed");
    if (read_rows(job, band)) return -1;
  }
  if (warned(job)) return -1;
  return ends_well(job) ? 0 : refuse(job, "corrupt");
}

/* ---- the same for boxes that are cut out of the bits (_cut.c), each decoded as a separate JPEG ---- */

static JDIMENSION divided_up(JDIMENSION number, JDIMENSION by) { return (number + by - 1) / by; }

static int open_cutter(struct job *job, int *corrupt) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  JDIMENSION bottom = 0;
  for (const struct band *band = job->bands; band < job->bands + job->count; band++)
    if (band->bottom > bottom) bottom = band->bottom;
  job->cutter = cutter_open(jpeg, jpeg->src->next_input_byte, (const unsigned char *)job->data.buf + job->data.len,
                            divided_up(bottom, job->mcu_height), corrupt);
  return job->cutter == NULL ? -1 : 0;
}

/* libjpeg does not warn of every error in the bits, so those of bands are walked too. Unsupported photos pass. */
static int check_bits(struct job *job) {
  int corrupt;
  if (open_cutter(job, &corrupt) && corrupt) return refuse(job, "corrupt");
  cutter_close(job->cutter);
  job->cutter = NULL;
  return 0;
}

static int find_mcus(struct job *job) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  int corrupt;
  if (open_cutter(job, &corrupt)) return refuse(job, "corrupt");
  job->photo_width = jpeg->image_width;
  job->photo_height = jpeg->image_height;
  job->space = jpeg->jpeg_color_space;
  return 0;
}

/* The struct keeps the photo's tables: the cut has none. */
static int decode_cut(struct job *job, const struct band *band, const unsigned char *cut, size_t length) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  if (setjmp(job->on_error)) return -1;
  lib_jpeg_abort_decompress(jpeg);
  lib_jpeg_mem_src(jpeg, cut, (unsigned long)length);
  lib_jpeg_read_header(jpeg, TRUE);
  jpeg->jpeg_color_space = job->space;
  choose(job);
  lib_jpeg_start_decompress(jpeg);
  if (jpeg->output_width != band->right - band->left || jpeg->output_height != band->bottom - band->top ||
      jpeg->output_components != (jpeg->num_components == 1 || job->grey ? 1 : 4))
    return refuse(job, "failed");
  if (warned(job) || read_rows(job, band)) return -1;
  return 0;
}

/* The band's bits as a JPEG without tables; NULL with job->reason set. */
static const unsigned char *cut_band(struct job *job, const struct band *band, size_t *length) {
  JDIMENSION scale = job->scale;
  /* At its right and lower edge the photo may end within a pixel of the scaled picture. */
  JDIMENSION right = band->right * scale, bottom = band->bottom * scale;
  if (right > job->photo_width) right = job->photo_width;
  if (bottom > job->photo_height) bottom = job->photo_height;
  struct cut cut = {band->left / job->mcu_width, band->top / job->mcu_height,
                    divided_up(band->right, job->mcu_width), divided_up(band->bottom, job->mcu_height),
                    right - band->left * scale, bottom - band->top * scale};
  const unsigned char *bytes = cutter_cut(job->cutter, &cut, length);
  if (bytes == NULL) job->reason = "failed";
  return bytes;
}

static int decode_cuts(struct job *job) {
  for (const struct band *band = job->bands; band < job->bands + job->count; band++) {
    size_t length;
    const unsigned char *bytes = cut_band(job, band, &length);
    if (bytes == NULL || decode_cut(job, band, bytes, length)) return -1;
  }
  return 0;
}

static void release(struct job *job) {
  /* Safe at any stage: a struct that was never created holds no memory. */
  if (job->jpeg.mem != NULL) lib_jpeg_destroy_decompress(&job->jpeg);
  if (job->data.obj != NULL) PyBuffer_Release(&job->data);
  if (job->memory.obj != NULL) PyBuffer_Release(&job->memory);
  if (job->turn.jpeg.mem != NULL) lib_jpeg_destroy_compress(&job->turn.jpeg);
  free(job->turn.out);
  cutter_close(job->cutter);
  for (Py_ssize_t i = 0; i < job->count; i++) drop_band(&job->bands[i]);
  PyMem_Free(job->bands);
  PyMem_Free(job);
}

/* ---- Python's side ---- */

static PyObject *raise_refusal(const struct job *job) {
  PyObject *value = Py_BuildValue("ss", job->reason, job->detail);
  if (value != NULL) {
    PyErr_SetObject(undecoded, value);
    Py_DECREF(value);
  }
  return NULL;
}

static struct job *new_job(void) {
  if (!bound) {
    PyErr_SetString(PyExc_RuntimeError, "bind() comes first");
    return NULL;
  }
  struct job *job = PyMem_Calloc(1, sizeof *job);
  if (job == NULL) PyErr_NoMemory();
  return job;
}

static int good_scale(unsigned int scale) {
  if (scale == 1 || scale == 2 || scale == 4 || scale == 8) return 1;
  PyErr_SetString(PyExc_ValueError, "scale is 1, 2, 4 or 8");
  return 0;
}

static int run(struct job *job, int (*step)(struct job *)) {
  int status;
  Py_BEGIN_ALLOW_THREADS;
  status = step(job);
  Py_END_ALLOW_THREADS;
  if (status != 0) raise_refusal(job);
  return status;
}

static PyObject *py_size(PyObject *self, PyObject *args) {
  (void)self;
  PyObject *answer = NULL;
  struct job *job = new_job();
  if (job == NULL) return NULL;
  if (PyArg_ParseTuple(args, "y*I", &job->data, &job->scale) && good_scale(job->scale) && run(job, read_header) == 0)
    answer = Py_BuildValue("IIII", job->jpeg.output_width, job->jpeg.output_height, job->mcu_width, job->mcu_height);
  release(job);
  return answer;
}

static PyObject *py_scan_damage(PyObject *self, PyObject *args) {
  (void)self;
  PyObject *answer = NULL;
  struct job *job = new_job();
  if (job == NULL) return NULL;
  if (PyArg_ParseTuple(args, "y*", &job->data) && run(job, read_scans) == 0) answer = PyLong_FromLong(job->damage);
  release(job);
  return answer;
}

static int open_bands(struct job *job, PyObject *wanted) {
  Py_ssize_t count = PyTuple_GET_SIZE(wanted);
  if (count == 0) {
    PyErr_SetString(PyExc_ValueError, "no band is wanted");
    return -1;
  }
  job->bands = PyMem_Calloc((size_t)count, sizeof *job->bands);
  if (job->bands == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  job->count = count;
  return 0;
}

static int take_numbers(PyObject *item, const char *format, JDIMENSION *a, JDIMENSION *b, JDIMENSION *c, JDIMENSION *d) {
  if (PyTuple_Check(item)) return PyArg_ParseTuple(item, format, a, b, c, d) ? 0 : -1;
  PyErr_SetString(PyExc_TypeError, "a band is a tuple of numbers");
  return -1;
}

/* The wanted rows as bands: within the picture, in order, not overlapping. */
static int take_bands(struct job *job, PyObject *rows) {
  JDIMENSION end = 0;
  if (open_bands(job, rows) != 0) return -1;
  for (Py_ssize_t i = 0; i < job->count; i++) {
    struct band *band = &job->bands[i];
    if (take_numbers(PyTuple_GET_ITEM(rows, i), "II", &band->top, &band->bottom, NULL, NULL) != 0) return -1;
    if (band->top < end || band->bottom <= band->top || band->bottom > job->jpeg.output_height) {
      PyErr_SetString(PyExc_ValueError, "bands are (top, bottom) within the picture, in order, not overlapping");
      return -1;
    }
    end = band->bottom;
  }
  return 0;
}

static int take_rectangle(const struct job *job, PyObject *item, struct band *band) {
  JDIMENSION width = job->picture_width, height = job->picture_height;
  if (take_numbers(item, "IIII", &band->left, &band->top, &band->right, &band->bottom) != 0) return -1;
  if (band->left < band->right && band->top < band->bottom && band->right <= width && band->bottom <= height &&
      band->left % job->mcu_width == 0 && band->top % job->mcu_height == 0)
    return 0;
  PyErr_SetString(PyExc_ValueError, "rectangles are (left, top, right, bottom) within the picture, from whole MCUs on");
  return -1;
}

/* The wanted rectangles as bands: within the picture, starting at a whole MCU. */
static int take_rectangles(struct job *job, PyObject *rectangles) {
  if (open_bands(job, rectangles) != 0) return -1;
  for (Py_ssize_t i = 0; i < job->count; i++)
    if (take_rectangle(job, PyTuple_GET_ITEM(rectangles, i), &job->bands[i]) != 0) return -1;
  return 0;
}

static int take_columns(struct job *job, unsigned int left, unsigned int right) {
  if (left >= right || right > job->jpeg.output_width) {
    PyErr_SetString(PyExc_ValueError, "the columns are (left, right) within the picture");
    return -1;
  }
  job->left = left;
  job->width = right - left;
  return 0;
}

/* Assigns each band its place in the memory, one after the other, and calls the step, which opens or closes it. Call start()
 * first: it sets the sizes that libjpeg will write. */
static int each_band(struct job *job, int (*step)(struct band *, unsigned char *, size_t)) {
  size_t used = 0, all = (size_t)job->memory.len;
  for (struct band *band = job->bands; band < job->bands + job->count; band++) {
    size_t rows = band->bottom - band->top;
    size_t stride = (size_t)(band->right - band->left) * (job->jpeg.num_components == 1 ? 1 : 4);
    if (stride > (all - used) / rows) {
      PyErr_SetString(PyExc_ValueError, "the memory is too small for the bands");
      return -1;
    }
    if (step(band, (unsigned char *)job->memory.buf + used, stride * rows) != 0) return -1;
    used += stride * rows;
  }
  return 0;
}

/* The bands' columns are those that libjpeg decodes, which start() determines. */
static int allocate(struct job *job) {
  if (job->jpeg.output_components != (job->jpeg.num_components == 1 ? 1 : 4)) {
    PyErr_SetString(PyExc_SystemError, "libjpeg would write pixels of another size");
    return -1;
  }
  for (struct band *band = job->bands; band < job->bands + job->count; band++) {
    band->left = job->left;
    band->right = job->left + job->width;
  }
  return each_band(job, open_band);
}

static const char *mode_of(const struct job *job) { return job->jpeg.num_components == 1 ? "L" : "RGB"; }

static PyObject *py_decode(PyObject *self, PyObject *args) {
  (void)self;
  PyObject *answer = NULL, *rows;
  unsigned int left, right;
  struct job *job = new_job();
  if (job == NULL) return NULL;
  if (PyArg_ParseTuple(args, "y*I(II)O!w*", &job->data, &job->scale, &left, &right, &PyTuple_Type, &rows,
                       &job->memory) &&
      good_scale(job->scale) && run(job, read_header) == 0 && take_columns(job, left, right) == 0 &&
      take_bands(job, rows) == 0 && run(job, check_bits) == 0 && run(job, start) == 0 && allocate(job) == 0 && run(job, decode_bands) == 0 &&
      each_band(job, close_band) == 0)
    answer = Py_BuildValue("sII", mode_of(job), job->left, job->width);
  release(job);
  return answer;
}

static PyObject *py_cut(PyObject *self, PyObject *args) {
  (void)self;
  PyObject *answer = NULL, *rectangles;
  struct job *job = new_job();
  if (job == NULL) return NULL;
  if (PyArg_ParseTuple(args, "y*IO!w*", &job->data, &job->scale, &PyTuple_Type, &rectangles, &job->memory) &&
      good_scale(job->scale) && run(job, read_header) == 0 && take_rectangles(job, rectangles) == 0 &&
      each_band(job, open_band) == 0 && run(job, find_mcus) == 0 && run(job, decode_cuts) == 0 &&
      each_band(job, close_band) == 0)
    answer = PyUnicode_FromString(mode_of(job));
  release(job);
  return answer;
}

/* ---- a photo whose boxes become files ---- */

struct pieces { /* the Python object */
  PyObject_HEAD
  struct job *job;
  int busy; /* another thread is inside a method, without the GIL */
  int extended; /* not baseline */
  size_t tables_length;
  uint8_t tables[CUT_TABLES];
};

/* JFIF says YCbCr or grey to every decoder, Adobe's marker RGB. */
static const uint8_t JFIF[] = {0xFF, 0xE0, 0, 16, 'J', 'F', 'I', 'F', 0, 1, 1, 0, 0, 1, 0, 1, 0, 0};
static const uint8_t ADOBE_RGB[] = {0xFF, 0xEE, 0, 14, 'A', 'd', 'o', 'b', 'e', 0, 100, 0, 0, 0, 0, 0};

/* Decodes the band's bits into its pixels. */
static int decode_band(struct job *job) {
  size_t length;
  const unsigned char *bytes = cut_band(job, job->bands, &length);
  return bytes == NULL ? -1 : decode_cut(job, job->bands, bytes, length);
}

/* Decodes the first MCU: libjpeg judges all tables then, which nothing else that makes a file reads. */
static int try_tables(struct job *job) {
  struct band *band = job->bands;
  band->right = job->mcu_width < job->photo_width ? job->mcu_width : job->photo_width;
  band->bottom = job->mcu_height < job->photo_height ? job->mcu_height : job->photo_height;
  unsigned char *pixels = malloc((size_t)job->mcu_width * job->mcu_height * 4);
  if (pixels == NULL) return refuse(job, "failed");
  band->pixels = pixels;
  int status = decode_band(job);
  free(pixels);
  band->pixels = NULL;
  return status;
}

/* ---- turning a cut by its blocks, as jpegtran does ---- */

/* libjpeg calls it when the memory is full: all of it, whatever the pointers say. */
static boolean grow_target(j_compress_ptr jpeg) {
  struct job *job = jpeg->client_data;
  struct turn *turn = &job->turn;
  size_t used = turn->capacity, capacity = used ? 2 * used : 1 << 16;
  uint8_t *out = realloc(turn->out, capacity);
  if (out == NULL) {
    job->reason = "failed";
    longjmp(job->on_error, 1);
  }
  turn->out = out;
  turn->capacity = capacity;
  turn->target.next_output_byte = out + used;
  turn->target.free_in_buffer = capacity - used;
  return TRUE;
}

static void start_target(j_compress_ptr jpeg) {
  struct turn *turn = &((struct job *)jpeg->client_data)->turn;
  turn->target.next_output_byte = turn->out;
  turn->target.free_in_buffer = turn->capacity;
  if (turn->capacity == 0) grow_target(jpeg); /* libjpeg writes before it asks */
}

static void end_target(j_compress_ptr jpeg) {
  struct turn *turn = &((struct job *)jpeg->client_data)->turn;
  turn->length = turn->capacity - turn->target.free_in_buffer;
}

static void turn_block(const struct turn *turn, const JCOEF *from, JCOEF *to) {
  for (int v = 0; v < DCTSIZE; v++)
    for (int u = 0; u < DCTSIZE; u++) {
      JCOEF value = turn->swap ? from[u * DCTSIZE + v] : from[v * DCTSIZE + u];
      int negative = (turn->mirror_x & u) ^ (turn->mirror_y & v);
      to[v * DCTSIZE + u] = (JCOEF)(negative & 1 ? -value : value);
    }
}

/* Columns and rows of blocks of a component, in whole MCUs. */
static void blocks_of(const struct job *job, const jpeg_component_info *component, JDIMENSION *across, JDIMENSION *down) {
  const struct jpeg_decompress_struct *jpeg = &job->jpeg;
  int alone = jpeg->num_components == 1;
  *across = divided_up(jpeg->image_width, job->mcu_width) * (alone ? 1u : (JDIMENSION)component->h_samp_factor);
  *down = divided_up(jpeg->image_height, job->mcu_height) * (alone ? 1u : (JDIMENSION)component->v_samp_factor);
}

/* Row by row of the target: libjpeg zeroes rows that are used for the first time, and refuses to skip any. */
static void turn_blocks(struct job *job, jvirt_barray_ptr from, jvirt_barray_ptr to, JDIMENSION across, JDIMENSION down) {
  const struct turn *turn = &job->turn;
  j_common_ptr common = (j_common_ptr)&job->jpeg;
  JDIMENSION width = turn->swap ? down : across, height = turn->swap ? across : down;
  for (JDIMENSION y = 0; y < height; y++) {
    JBLOCKARRAY target = (*common->mem->access_virt_barray)(common, to, y, 1, TRUE);
    for (JDIMENSION x = 0; x < width; x++) {
      JDIMENSION column = turn->mirror_x ? width - 1 - x : x, row = turn->mirror_y ? height - 1 - y : y;
      JBLOCKARRAY source = (*common->mem->access_virt_barray)(common, from, turn->swap ? column : row, 1, FALSE);
      turn_block(turn, source[0][turn->swap ? row : column], target[0][x]);
    }
  }
}

/* The header of the turned picture, from that of the cut. */
static void turn_header(struct job *job) {
  struct turn *turn = &job->turn;
  struct jpeg_compress_struct *out = &turn->jpeg;
  lib_jpeg_copy_critical_parameters(&job->jpeg, out);
  out->image_width = turn->width;
  out->image_height = turn->height;
  out->optimize_coding = TRUE; /* the photo's tables may lack codes */
  for (int i = 0; i < out->num_components; i++) {
    jpeg_component_info *component = &out->comp_info[i];
    int across = component->h_samp_factor;
    if (turn->swap) component->h_samp_factor = component->v_samp_factor, component->v_samp_factor = across;
    if (out->num_components == 1) component->h_samp_factor = component->v_samp_factor = 1;
  }
  for (int i = 0; turn->swap && i < NUM_QUANT_TBLS; i++) {
    JQUANT_TBL *table = out->quant_tbl_ptrs[i];
    if (table == NULL) continue;
    for (int v = 0; v < DCTSIZE; v++)
      for (int u = 0; u < v; u++) {
        UINT16 value = table->quantval[v * DCTSIZE + u];
        table->quantval[v * DCTSIZE + u] = table->quantval[u * DCTSIZE + v];
        table->quantval[u * DCTSIZE + v] = value;
      }
  }
}

/* Turns the band's bits into turn->out. */
static int turn_band(struct job *job) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  struct turn *turn = &job->turn;
  jvirt_barray_ptr turned[MAX_COMPONENTS];
  size_t length;
  const unsigned char *cut = cut_band(job, job->bands, &length);
  if (cut == NULL) return -1;
  if (turn->jpeg.mem != NULL) lib_jpeg_destroy_compress(&turn->jpeg);
  turn->jpeg.mem = NULL;
  if (setjmp(job->on_error)) return -1;
  lib_jpeg_abort_decompress(jpeg);
  lib_jpeg_mem_src(jpeg, cut, (unsigned long)length);
  lib_jpeg_read_header(jpeg, TRUE);
  jpeg->jpeg_color_space = job->space;
  for (int i = 0; i < jpeg->num_components; i++) {
    JDIMENSION across, down;
    blocks_of(job, &jpeg->comp_info[i], &across, &down);
    turned[i] = (*jpeg->mem->request_virt_barray)((j_common_ptr)jpeg, JPOOL_IMAGE, TRUE, turn->swap ? down : across,
                                                  turn->swap ? across : down, MAX_SAMP_FACTOR);
  }
  jvirt_barray_ptr *read = lib_jpeg_read_coefficients(jpeg);
  if (warned(job)) return -1;
  for (int i = 0; i < jpeg->num_components; i++) {
    JDIMENSION across, down;
    blocks_of(job, &jpeg->comp_info[i], &across, &down);
    turn_blocks(job, read[i], turned[i], across, down);
  }
  turn->jpeg.err = jpeg->err;
  turn->jpeg.client_data = job;
  lib_jpeg_CreateCompress(&turn->jpeg, JPEG_LIB_VERSION, sizeof turn->jpeg);
  turn->target.init_destination = start_target;
  turn->target.empty_output_buffer = grow_target;
  turn->target.term_destination = end_target;
  turn->jpeg.dest = &turn->target;
  turn_header(job);
  lib_jpeg_write_coefficients(&turn->jpeg, turned);
  lib_jpeg_finish_compress(&turn->jpeg);
  return 0;
}

static int enter(struct pieces *pieces) {
  if (pieces->job == NULL || pieces->busy) {
    PyErr_SetString(PyExc_RuntimeError, "the photo is not open, or another thread uses it");
    return -1;
  }
  pieces->busy = 1;
  return 0;
}

static PyObject *new_pieces(PyTypeObject *type, PyObject *args, PyObject *names) {
  unsigned int bottom;
  if (names != NULL && PyDict_GET_SIZE(names) != 0) {
    PyErr_SetString(PyExc_TypeError, "Pieces takes no names");
    return NULL;
  }
  struct pieces *pieces = (struct pieces *)type->tp_alloc(type, 0);
  if (pieces == NULL) return NULL;
  struct job *job = pieces->job = new_job();
  if (job == NULL) goto failed;
  job->scale = 1;
  if (!PyArg_ParseTuple(args, "y*I", &job->data, &bottom) || run(job, read_header) != 0) goto failed;
  job->bands = PyMem_Calloc(1, sizeof *job->bands);
  if (job->bands == NULL) {
    PyErr_NoMemory();
    goto failed;
  }
  job->count = 1;
  if (bottom == 0 || bottom > job->picture_height) {
    PyErr_SetString(PyExc_ValueError, "the last row is not in the picture");
    goto failed;
  }
  job->bands->bottom = bottom;
  if (run(job, find_mcus) != 0) goto failed;
  pieces->tables_length = cutter_tables(job->cutter, &job->jpeg, pieces->tables, &pieces->extended);
  if (pieces->tables_length == 0) {
    refuse(job, "corrupt");
    raise_refusal(job);
    goto failed;
  }
  if (run(job, try_tables) != 0) goto failed;
  PyBuffer_Release(&job->data); /* the bits are copied */
  return (PyObject *)pieces;
failed:
  Py_DECREF(pieces);
  return NULL;
}

static void drop_pieces(PyObject *self) {
  struct pieces *pieces = (struct pieces *)self;
  PyTypeObject *type = Py_TYPE(self);
  if (pieces->job != NULL) release(pieces->job);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyObject *pieces_size(PyObject *self, void *unused) {
  (void)unused;
  const struct job *job = ((struct pieces *)self)->job;
  return Py_BuildValue("IIII", job->picture_width, job->picture_height, job->mcu_width, job->mcu_height);
}

static PyObject *joined(const struct pieces *pieces, const Py_buffer *segments, const unsigned char *cut, size_t length) {
  const struct job *job = pieces->job;
  int rgb = job->space == JCS_RGB;
  const uint8_t *colours = rgb ? ADOBE_RGB : JFIF;
  size_t colours_length = rgb ? sizeof ADOBE_RGB : sizeof JFIF;
  size_t added = colours_length + (size_t)segments->len + pieces->tables_length;
  PyObject *file = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(length + added));
  if (file == NULL) return NULL;
  uint8_t *out = (uint8_t *)PyBytes_AS_STRING(file);
  memcpy(out, cut, 2);
  memcpy(out + 2, colours, colours_length);
  memcpy(out + 2 + colours_length, segments->buf, (size_t)segments->len);
  memcpy(out + 2 + added - pieces->tables_length, pieces->tables, pieces->tables_length);
  memcpy(out + 2 + added, cut + 2, length - 2);
  if (pieces->extended) out[2 + added + 1] = 0xC1;
  return file;
}

static PyObject *pieces_file(PyObject *self, PyObject *args) {
  struct pieces *pieces = (struct pieces *)self;
  PyObject *rectangle, *file = NULL;
  Py_buffer segments = {0};
  if (!PyArg_ParseTuple(args, "Oy*", &rectangle, &segments)) return NULL;
  if (enter(pieces) == 0) {
    struct job *job = pieces->job;
    const unsigned char *cut = NULL;
    size_t length = 0;
    if (take_rectangle(job, rectangle, job->bands) == 0) {
      Py_BEGIN_ALLOW_THREADS;
      cut = cut_band(job, job->bands, &length);
      Py_END_ALLOW_THREADS;
      file = cut == NULL ? raise_refusal(job) : joined(pieces, &segments, cut, length);
    }
    pieces->busy = 0;
  }
  PyBuffer_Release(&segments);
  return file;
}

static PyObject *with_segments(const struct turn *turn, const Py_buffer *segments, size_t head) {
  PyObject *file = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)turn->length + segments->len);
  if (file == NULL) return NULL;
  uint8_t *out = (uint8_t *)PyBytes_AS_STRING(file);
  memcpy(out, turn->out, head);
  memcpy(out + head, segments->buf, (size_t)segments->len);
  memcpy(out + head + segments->len, turn->out + head, turn->length - head);
  return file;
}

/* Whether the turned picture has the rectangle's MCUs: a mirrored side must be of whole MCUs, and may lose pixels of one. */
static int fits(int mirrored, JDIMENSION side, JDIMENSION turned, JDIMENSION mcu) {
  return mirrored ? side % mcu == 0 && turned <= side && turned > side - mcu : turned == side;
}

static PyObject *pieces_turned(PyObject *self, PyObject *args) {
  struct pieces *pieces = (struct pieces *)self;
  PyObject *rectangle, *file = NULL;
  Py_buffer segments = {0};
  struct turn asked = {0};
  if (!PyArg_ParseTuple(args, "O(II)(ppp)y*", &rectangle, &asked.width, &asked.height, &asked.swap, &asked.mirror_x,
                        &asked.mirror_y, &segments))
    return NULL;
  if (enter(pieces) == 0) {
    struct job *job = pieces->job;
    struct band *band = job->bands;
    if (take_rectangle(job, rectangle, band) == 0) {
      JDIMENSION across = asked.swap ? asked.height : asked.width, down = asked.swap ? asked.width : asked.height;
      if (!fits(asked.swap ? asked.mirror_y : asked.mirror_x, band->right - band->left, across, job->mcu_width) ||
          !fits(asked.swap ? asked.mirror_x : asked.mirror_y, band->bottom - band->top, down, job->mcu_height)) {
        PyErr_SetString(PyExc_ValueError, "the rectangle cannot be turned to this size");
      } else {
        struct turn *turn = &job->turn;
        turn->swap = asked.swap, turn->mirror_x = asked.mirror_x, turn->mirror_y = asked.mirror_y;
        turn->width = asked.width, turn->height = asked.height;
        if (run(job, turn_band) == 0)
          file = with_segments(turn, &segments, 2 + (job->space == JCS_RGB ? sizeof ADOBE_RGB : sizeof JFIF));
      }
    }
    pieces->busy = 0;
  }
  PyBuffer_Release(&segments);
  return file;
}

static PyObject *pieces_levels(PyObject *self, PyObject *rectangle) {
  struct pieces *pieces = (struct pieces *)self;
  PyObject *levels = NULL;
  if (enter(pieces) != 0) return NULL;
  struct job *job = pieces->job;
  const struct band *band = job->bands;
  if (take_rectangle(job, rectangle, job->bands) == 0) {
    struct cut cut = {band->left / job->mcu_width, band->top / job->mcu_height, divided_up(band->right, job->mcu_width),
                      divided_up(band->bottom, job->mcu_height), 0, 0};
    if (!cutter_has(job->cutter, &cut)) PyErr_SetString(PyExc_ValueError, "the rectangle is below the last row");
    else levels = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(cut.right - cut.left) * (cut.bottom - cut.top));
    if (levels != NULL) cutter_levels(job->cutter, &job->jpeg, job->space, &cut, (uint8_t *)PyBytes_AS_STRING(levels));
  }
  pieces->busy = 0;
  return levels;
}

/* The decoded luma of the band, as bytes. */
static PyObject *decode_grey(struct job *job) {
  struct band *band = job->bands;
  size_t size = (size_t)(band->right - band->left) * (band->bottom - band->top);
  PyObject *pixels = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
  if (pixels == NULL) return NULL;
  unsigned char *place = (unsigned char *)PyBytes_AS_STRING(pixels);
  job->grey = 1;
  if (open_band(band, place, size) != 0 || run(job, decode_band) != 0) Py_CLEAR(pixels);
  if (pixels != NULL) close_band(band, place, size);
  drop_band(band);
  memset(band, 0, sizeof *band);
  return pixels;
}

static PyObject *pieces_grey(PyObject *self, PyObject *rectangle) {
  struct pieces *pieces = (struct pieces *)self;
  PyObject *pixels = NULL;
  if (enter(pieces) != 0) return NULL;
  if (take_rectangle(pieces->job, rectangle, pieces->job->bands) == 0) pixels = decode_grey(pieces->job);
  pieces->busy = 0;
  return pixels;
}

static PyObject *pieces_edges(PyObject *self, PyObject *args) {
  struct pieces *pieces = (struct pieces *)self;
  PyObject *answer = NULL;
  unsigned int left, top, right, bottom;
  if (!PyArg_ParseTuple(args, "(IIII)", &left, &top, &right, &bottom) || enter(pieces) != 0) return NULL;
  struct job *job = pieces->job;
  unsigned int aside = left % job->mcu_width, above = top % job->mcu_height;
  PyObject *outer = Py_BuildValue("(IIII)", left - aside, top - above, right, bottom);
  if (outer != NULL && take_rectangle(job, outer, job->bands) == 0) {
    if (left >= right || top >= bottom || right - left < 3 || bottom - top < 3) {
      PyErr_SetString(PyExc_ValueError, "a window has at least 3 x 3 px");
    } else {
      PyObject *pixels = decode_grey(job);
      size_t stride = (size_t)(right - left) + aside;
      if (pixels != NULL)
        answer = PyLong_FromUnsignedLongLong(edges_of((const uint8_t *)PyBytes_AS_STRING(pixels) + above * stride + aside,
                                                      stride, right - left, bottom - top));
      Py_XDECREF(pixels);
    }
  }
  Py_XDECREF(outer);
  pieces->busy = 0;
  return answer;
}

static PyMethodDef pieces_methods[] = {
    {"file", pieces_file, METH_VARARGS,
     "file((left, top, right, bottom), segments) -> the rectangle, which begins with whole MCUs, as a JPEG file with these\n"
     "segments. The photo's bits are copied."},
    {"turned", pieces_turned, METH_VARARGS,
     "turned((left, top, right, bottom), (width, height), (swap, mirror_x, mirror_y), segments) -> the same, turned by its\n"
     "blocks: x and y are swapped, then x is mirrored, then y. A mirrored side has whole MCUs, and may then lose pixels of one."},
    {"levels", pieces_levels, METH_O, "levels((left, top, right, bottom)) -> a luma byte for each MCU that it touches."},
    {"edges", pieces_edges, METH_VARARGS,
     "edges((left, top, right, bottom)) -> the sum of squares of the Laplacian of the window's decoded luma."},
    {"grey", pieces_grey, METH_O, "grey((left, top, right, bottom)) -> its decoded luma."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef pieces_members[] = {
    {"size", pieces_size, NULL, "(width, height) px of the photo, and those of an MCU", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot pieces_slots[] = {
    {Py_tp_new, new_pieces},
    {Py_tp_dealloc, drop_pieces},
    {Py_tp_methods, pieces_methods},
    {Py_tp_getset, pieces_members},
    {Py_tp_doc, "Pieces(data, bottom): a photo whose MCUs are known down to this row. For one thread at a time."},
    {0, NULL},
};

static PyType_Spec pieces_spec = {
    "cropline_regions._regions.Pieces", sizeof(struct pieces), 0, Py_TPFLAGS_DEFAULT, pieces_slots};

/* (counts, values) of a Huffman table, as in a DHT segment. */
static int take_table(PyObject *item, JHUFF_TBL *table) {
  const char *counts, *values;
  Py_ssize_t lengths, count, sum = 0;
  if (!PyTuple_Check(item) || !PyArg_ParseTuple(item, "y#y#", &counts, &lengths, &values, &count)) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a table is (counts, values)");
    return -1;
  }
  memset(table, 0, sizeof *table);
  for (Py_ssize_t i = 0; i < lengths && i < 16; i++) sum += table->bits[i + 1] = (UINT8)counts[i];
  if (lengths != 16 || sum != count || count > 256) {
    PyErr_SetString(PyExc_ValueError, "a table has 16 counts and as many values as they say");
    return -1;
  }
  memcpy(table->huffval, values, (size_t)count);
  return 0;
}

static PyObject *py_walk(PyObject *self, PyObject *args) {
  (void)self;
  static const char *const names[] = {"whole", "short", "bad"};
  JHUFF_TBL tables[2 * D_MAX_BLOCKS_IN_MCU];
  const JHUFF_TBL *dc[D_MAX_BLOCKS_IN_MCU], *ac[D_MAX_BLOCKS_IN_MCU];
  PyObject *of_blocks, *known[2 * D_MAX_BLOCKS_IN_MCU];
  Py_buffer data = {0};
  unsigned long long wanted;
  uint64_t mcus, bit;
  if (!PyArg_ParseTuple(args, "y*O!K", &data, &PyTuple_Type, &of_blocks, &wanted)) return NULL;
  Py_ssize_t blocks = PyTuple_GET_SIZE(of_blocks);
  int good = blocks > 0 && blocks <= D_MAX_BLOCKS_IN_MCU;
  if (!good) PyErr_SetString(PyExc_ValueError, "an MCU has 1 to 10 blocks");
  for (Py_ssize_t i = 0; good && i < blocks; i++) {
    PyObject *pair = PyTuple_GET_ITEM(of_blocks, i);
    good = PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2;
    if (!good) PyErr_SetString(PyExc_TypeError, "a block has a DC and an AC table");
    for (int side = 0; good && side < 2; side++) {
      Py_ssize_t own = 2 * i + side, other = side;
      known[own] = PyTuple_GET_ITEM(pair, side);
      while (known[other] != known[own]) other += 2;
      if (other == own) good = take_table(known[own], &tables[own]) == 0;
      (side ? ac : dc)[i] = &tables[other];
    }
  }
  enum walked ended = WALK_BAD;
  if (good) {
    Py_BEGIN_ALLOW_THREADS;
    ended = walk_bits(data.buf, (size_t)data.len, dc, ac, (int)blocks, wanted, &mcus, &bit);
    Py_END_ALLOW_THREADS;
  }
  PyBuffer_Release(&data);
  if (!good) return NULL;
  if (ended == WALK_NO_MEMORY) return PyErr_NoMemory();
  return Py_BuildValue("KKs", (unsigned long long)mcus, (unsigned long long)bit, names[ended]);
}

static int try_library(struct job *job) {
  if (setjmp(job->on_error)) return -1;
  job->jpeg.err = lib_jpeg_std_error(&job->errors);
  job->errors.error_exit = on_error;
  job->jpeg.client_data = job;
  lib_jpeg_CreateDecompress(&job->jpeg, JPEG_LIB_VERSION, sizeof job->jpeg);
  return 0;
}

static PyObject *py_bind(PyObject *self, PyObject *args) {
  (void)self;
  PyObject *path = NULL;
  if (!PyArg_ParseTuple(args, "O&", PyUnicode_FSConverter, &path)) return NULL;
  /* Finds the loaded library without loading it: dlsym searches the module and the libraries that it was linked with. */
  void *handle = dlopen(PyBytes_AS_STRING(path), RTLD_LAZY | RTLD_NOLOAD);
  Py_DECREF(path);
  if (handle == NULL) {
    PyErr_SetString(PyExc_OSError, "the module is not loaded");
    return NULL;
  }
  /* The handle stays open, so that the functions stay in place. */
#define FIND(name)                                                                                                   \
  lib_##name = (__typeof__(name) *)dlsym(handle, #name);                                                             \
  if (lib_##name == NULL) return PyErr_Format(PyExc_OSError, "Pillow's JPEG library does not show %s", #name);
  FUNCTIONS(FIND)
  bound = 1;
  struct job *job = new_job();
  if (job == NULL) return NULL;
  bound = try_library(job) == 0;
  release(job);
  if (bound) Py_RETURN_NONE;
  return PyErr_Format(PyExc_OSError, "Pillow's JPEG library has another interface than %d", JPEG_LIB_VERSION);
}

static PyMethodDef methods[] = {
    {"bind", py_bind, METH_VARARGS, "bind(path): use the libjpeg-turbo that this loaded module was linked with."},
    {"size", py_size, METH_VARARGS, "size(data, scale) -> (width, height) of the scaled picture, and those of an MCU."},
    {"decode", py_decode, METH_VARARGS,
     "decode(data, scale, (left, right), ((top, bottom), ...), memory) -> (mode, left, width). The bands' rows stand in the\n"
     "memory one behind the other, of width pixels each: 4 bytes a pixel for RGB, 1 for L."},
    {"cut", py_cut, METH_VARARGS,
     "cut(data, scale, ((left, top, right, bottom), ...), memory) -> mode. As decode, for rectangles that begin with whole\n"
     "MCUs; the rows of each have its own width."},
    {"walk", py_walk, METH_VARARGS,
     "walk(data, (((counts, values), (counts, values)), ...), wanted) -> (MCUs, bit, 'whole', 'short' or 'bad'): steps over the\n"
     "MCUs of these bytes, which have no stuffing; a DC and an AC table for each block."},
    {"measure", py_measure, METH_VARARGS,
     "measure(memory, first, stride, (width, height), grid, window) -> (sample, sum, squares) of pixels with four bytes: the\n"
     "luma of a regular grid of at most grid px a side, its sum, and the sum of squares of the Laplacian of the luma in the\n"
     "middle, of at most window px a side."},
    {"scan_damage", py_scan_damage, METH_VARARGS,
     "scan_damage(data) -> number of libjpeg's first warning about damaged scan data, 0 for none, -1 when it cannot read the\n"
     "scans. Holds all coefficients in memory: check the photo's size first."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "cropline_regions._regions", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__regions(void) {
  PyObject *made = PyModule_Create(&module);
  if (made == NULL) return NULL;
  undecoded = PyErr_NewException("cropline_regions._regions.Refusal", NULL, NULL);
  if (undecoded == NULL || PyModule_AddObjectRef(made, "Refusal", undecoded) < 0) {
    Py_DECREF(made);
    return NULL;
  }
  PyObject *pieces = PyType_FromSpec(&pieces_spec);
  int added = pieces == NULL ? -1 : PyModule_AddObjectRef(made, "Pieces", pieces);
  Py_XDECREF(pieces);
  if (added < 0) Py_CLEAR(made);
  return made;
}
