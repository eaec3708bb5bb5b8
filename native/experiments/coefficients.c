/* Whole photos as coefficients (jpeg_read_coefficients): cut without loss as jpegtran does, or rewritten.
 *
 * For trusted files: libjpeg's own error handler ends the process.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

struct coefficients {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  jvirt_barray_ptr *arrays;
};

struct coefficients *coefficients_open(const uint8_t *data, size_t size) {
  struct coefficients *whole = calloc(1, sizeof *whole);
  if (whole == NULL) return NULL;
  whole->jpeg.err = jpeg_std_error(&whole->errors);
  jpeg_create_decompress(&whole->jpeg);
  jpeg_mem_src(&whole->jpeg, data, size);
  jpeg_read_header(&whole->jpeg, TRUE);
  whole->arrays = jpeg_read_coefficients(&whole->jpeg);
  return whole;
}

void coefficients_close(struct coefficients *whole) {
  jpeg_destroy_decompress(&whole->jpeg);
  free(whole);
}

static size_t finished(struct jpeg_compress_struct *out, const uint8_t *given, uint8_t *const *buffer, const unsigned long *length) {
  jpeg_finish_compress(out);
  jpeg_destroy_compress(out);
  if (*buffer == given) return *length;
  free(*buffer); /* it did not fit */
  return 0;
}

/* Rewrites the photo: with restart markers after a number of rows or MCUs, or progressive. */
size_t transcode(struct coefficients *whole, int restart_rows, unsigned restart_blocks, int progressive, uint8_t *out,
                 size_t capacity) {
  struct jpeg_compress_struct to;
  struct jpeg_error_mgr errors;
  uint8_t *buffer = out;
  unsigned long length = capacity;
  to.err = jpeg_std_error(&errors);
  jpeg_create_compress(&to);
  jpeg_mem_dest(&to, &buffer, &length);
  jpeg_copy_critical_parameters(&whole->jpeg, &to);
  to.restart_in_rows = restart_rows;
  to.restart_interval = restart_blocks;
  if (progressive) jpeg_simple_progression(&to);
  jpeg_write_coefficients(&to, whole->arrays);
  return finished(&to, out, &buffer, &length);
}

/* The blocks of one component from (left, top) on; blocks beyond the photo are zero. */
static void copy_blocks(struct coefficients *whole, struct jpeg_compress_struct *to, jvirt_barray_ptr target, int index,
                        JDIMENSION left, JDIMENSION top, JDIMENSION across, JDIMENSION down) {
  jpeg_component_info *from = &whole->jpeg.comp_info[index];
  for (JDIMENSION row = 0; row < down; row++) {
    JBLOCKARRAY out = to->mem->access_virt_barray((j_common_ptr)to, target, row, 1, TRUE);
    if (top + row >= from->height_in_blocks) continue;
    JBLOCKARRAY in = whole->jpeg.mem->access_virt_barray((j_common_ptr)&whole->jpeg, whole->arrays[index], top + row, 1,
                                                         FALSE);
    JDIMENSION count = left + across > from->width_in_blocks ? from->width_in_blocks - left : across;
    memcpy(out[0], in[0] + left, count * sizeof(JBLOCK));
  }
}

/* MCUs from (left, top) on as a JPEG of width x height px, with optimised tables if `optimize`. */
size_t lossless_cut(struct coefficients *whole, int left, int top, int width, int height, int optimize, uint8_t *out,
                    size_t capacity) {
  struct jpeg_compress_struct to;
  struct jpeg_error_mgr errors;
  jvirt_barray_ptr targets[MAX_COMPONENTS];
  uint8_t *buffer = out;
  unsigned long length = capacity;
  to.err = jpeg_std_error(&errors);
  jpeg_create_compress(&to);
  jpeg_mem_dest(&to, &buffer, &length);
  jpeg_copy_critical_parameters(&whole->jpeg, &to);
  to.image_width = (JDIMENSION)width;
  to.image_height = (JDIMENSION)height;
  to.optimize_coding = optimize;
  JDIMENSION mcu_width = 8 * (JDIMENSION)whole->jpeg.max_h_samp_factor;
  JDIMENSION mcu_height = 8 * (JDIMENSION)whole->jpeg.max_v_samp_factor;
  JDIMENSION columns = ((JDIMENSION)width + mcu_width - 1) / mcu_width;
  JDIMENSION rows = ((JDIMENSION)height + mcu_height - 1) / mcu_height;
  for (int i = 0; i < to.num_components; i++) {
    JDIMENSION h = (JDIMENSION)to.comp_info[i].h_samp_factor, v = (JDIMENSION)to.comp_info[i].v_samp_factor;
    targets[i] = to.mem->request_virt_barray((j_common_ptr)&to, JPOOL_IMAGE, TRUE, columns * h, rows * v, v);
  }
  jpeg_write_coefficients(&to, targets); /* realises the arrays; jpeg_finish_compress reads the blocks */
  for (int i = 0; i < to.num_components; i++) {
    JDIMENSION h = (JDIMENSION)to.comp_info[i].h_samp_factor, v = (JDIMENSION)to.comp_info[i].v_samp_factor;
    copy_blocks(whole, &to, targets[i], i, (JDIMENSION)left * h, (JDIMENSION)top * v, columns * h, rows * v);
  }
  return finished(&to, out, &buffer, &length);
}
