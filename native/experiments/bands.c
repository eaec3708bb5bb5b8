/* The product's bands without its refusals: crop and skip of scanlines over any JPEG that libjpeg takes.
 *
 * For trusted files: libjpeg's own error handler ends the process.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

/* RGBX rows [rows[2i], rows[2i + 1]) one after the other; columns are (left, width), widened as libjpeg does. */
void bands(const uint8_t *data, size_t size, int *columns, const int *rows, int count, uint8_t *out) {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&jpeg);
  jpeg_mem_src(&jpeg, data, size);
  jpeg_read_header(&jpeg, TRUE);
  jpeg.out_color_space = JCS_EXT_RGBX;
  jpeg_start_decompress(&jpeg);
  JDIMENSION left = (JDIMENSION)columns[0], width = (JDIMENSION)columns[1];
  jpeg_crop_scanline(&jpeg, &left, &width);
  for (int band = 0; band < count; band++) {
    JDIMENSION top = (JDIMENSION)rows[2 * band], bottom = (JDIMENSION)rows[2 * band + 1];
    if (top > jpeg.output_scanline) jpeg_skip_scanlines(&jpeg, top - jpeg.output_scanline);
    while (jpeg.output_scanline < bottom) {
      JSAMPROW row = out;
      out += 4 * (size_t)width * jpeg_read_scanlines(&jpeg, &row, 1);
    }
  }
  columns[0] = (int)left;
  columns[1] = (int)width;
  jpeg_destroy_decompress(&jpeg);
}
