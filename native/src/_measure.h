/* Measures of pixels in memory, to the same numbers as Pillow's steps: see _measure.c. */
#ifndef MEASURE_H
#define MEASURE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>
#include <stdint.h>

/* The sum of squares of the Laplacian of these levels, at least 3 x 3. Each value is limited to a signed byte. */
unsigned long long edges_of(const uint8_t *levels, size_t stride, size_t width, size_t height);

PyObject *py_measure(PyObject *self, PyObject *args);

#endif
