#include "error.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 6144, BEGINNING = 120 }; /* a path has at most 4095 bytes */

/* The end of a message that the runtime filled: of a device's errors it may be anything. */
typedef struct {
  char mark;
  uint8_t status, cause, unmark;
} seal;
enum { MARK = 'c', TEXT_BYTES = sizeof(((tvm_flow_error *)0)->message) - sizeof(seal) };

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

tvm_flow_status flow_fail(tvm_flow_error *error, unsigned what, const char *format, ...) {
  const seal end = {.mark = MARK, .status = (uint8_t)what, .cause = (uint8_t)(what >> 8), .unmark = 0};
  if (error) {
    char text[LONGEST];
    va_list args;
    va_start(args, format);
    error->status = (tvm_flow_status)end.status;
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    keep(text, error->message, TEXT_BYTES);
    memcpy(error->message + TEXT_BYTES, &end, sizeof end);
  }
  return (tvm_flow_status)end.status;
}

tvm_flow_cause tvm_flow_cause_of(const tvm_flow_error *error) {
  static const uint8_t usual[] = {[TVM_FLOW_WRONG_SCHEMA] = TVM_FLOW_CAUSE_WRONG_VERSION,
                                  [TVM_FLOW_WRONG_ABI] = TVM_FLOW_CAUSE_WRONG_VERSION,
                                  [TVM_FLOW_WRONG_CPU] = TVM_FLOW_CAUSE_MISSING_FEATURE,
                                  [TVM_FLOW_NO_DEVICE] = TVM_FLOW_CAUSE_MISSING_FEATURE,
                                  [TVM_FLOW_BUSY] = TVM_FLOW_CAUSE_BUSY,
                                  [TVM_FLOW_NOT_FINITE] = TVM_FLOW_CAUSE_NOT_FINITE,
                                  [TVM_FLOW_NOT_SIGNED] = TVM_FLOW_CAUSE_BAD_SIGNATURE,
                                  [TVM_FLOW_BAD_SIGNATURE] = TVM_FLOW_CAUSE_BAD_SIGNATURE,
                                  [TVM_FLOW_UNKNOWN_KEY] = TVM_FLOW_CAUSE_BAD_SIGNATURE,
                                  [TVM_FLOW_OLDER_VERSION] = TVM_FLOW_CAUSE_WRONG_VERSION};
  seal end;
  if (!error) return TVM_FLOW_CAUSE_NONE;
  memcpy(&end, error->message + TEXT_BYTES, sizeof end);
  if (end.mark == MARK && end.status == error->status && end.cause && !end.unmark) return (tvm_flow_cause)end.cause;
  return error->status < sizeof usual ? (tvm_flow_cause)usual[error->status] : TVM_FLOW_CAUSE_NONE;
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
  return flow_fail(error, FLOW_FOR(CORRUPT, WRONG_STEP_TABLE),
                   "%s: %s: expected %llu, got %llu; pack the bundle again", file, what,
                   (unsigned long long)expected, (unsigned long long)got);
}

tvm_flow_status flow_wrong_bytes(tvm_flow_error *error, const char *file, uint64_t expected, uint64_t got) {
  return flow_fail(error, got < expected ? FLOW_FOR(CORRUPT, TRUNCATED) : FLOW_FOR(CORRUPT, CHANGED),
                   "%s: expected %llu bytes, got %llu; copy the bundle again", file, (unsigned long long)expected,
                   (unsigned long long)got);
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
