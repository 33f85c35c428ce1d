#include "error.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 6144, BEGINNING = 120 }; /* a path has at most 4095 bytes */

/* What is too long loses its middle: a path comes first, and its cause and what to do about it last. A path may hold
 * any byte, and a terminal would obey some. */
static void keep(const char *text, char *message, size_t bytes) {
  const size_t length = strlen(text);
  if (length < bytes)
    memcpy(message, text, length + 1);
  else
    snprintf(message, bytes, "%.*s ... %s", BEGINNING, text, text + length - (bytes - BEGINNING - sizeof " ... "));
  for (char *at = message; *at; at++)
    if ((unsigned char)*at < ' ' || *at == 0x7f) *at = '?';
}

tvm_flow_status flow_fail(tvm_flow_error *error, tvm_flow_status status, const char *format, ...) {
  if (error) {
    char text[LONGEST];
    va_list args;
    va_start(args, format);
    error->status = status;
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    keep(text, error->message, sizeof error->message);
  }
  return status;
}

tvm_flow_status flow_no_memory(tvm_flow_error *error, const char *what) {
  return flow_fail(error, TVM_FLOW_NO_MEMORY, "no memory for %s; free memory", what);
}

tvm_flow_status flow_null(tvm_flow_error *error, const char *function) {
  return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "%s: expected no null pointer", function);
}

tvm_flow_status flow_no_rows(tvm_flow_error *error, const char *table, uint32_t rows) {
  return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "options.%s: expected %u rows, got NULL; pass the table", table,
                   rows);
}

tvm_flow_status flow_corrupt(tvm_flow_error *error, const char *file, const char *what, uint64_t expected,
                             uint64_t got) {
  return flow_fail(error, TVM_FLOW_CORRUPT, "%s: %s: expected %llu, got %llu; pack the bundle again", file, what,
                   (unsigned long long)expected, (unsigned long long)got);
}

tvm_flow_status flow_wrong_bytes(tvm_flow_error *error, const char *file, uint64_t expected, uint64_t got) {
  return flow_fail(error, TVM_FLOW_CORRUPT, "%s: expected %llu bytes, got %llu; copy the bundle again", file,
                   (unsigned long long)expected, (unsigned long long)got);
}

tvm_flow_status flow_expect_finite(const char *unit, uint32_t number, const char *what, const float *values,
                                   uint64_t count, tvm_flow_error *error) {
  for (uint64_t i = 0; i < count; i++)
    if (!isfinite(values[i]))
      return flow_fail(error, TVM_FLOW_NOT_FINITE,
                       "%s %u, %s: expected finite numbers, got %g at %llu of %llu; trace the kernels "
                       "(tvm_flow_set_trace) to find the first that makes one, and look at what it was given",
                       unit, number, what, (double)values[i], (unsigned long long)i, (unsigned long long)count);
  return TVM_FLOW_OK;
}
