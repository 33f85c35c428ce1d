/* Filling the caller's error buffer. */
#ifndef TVM_FLOW_ERROR_H
#define TVM_FLOW_ERROR_H

#include "../include/tvm_flow_cause.h"
#include "../include/tvm_flow.h"

/* A status with its cause, FLOW_FOR(CORRUPT, TRUNCATED), where the status alone would not tell it. */
#define FLOW_FOR(status, cause) (TVM_FLOW_##status | TVM_FLOW_CAUSE_##cause << 8)

/* Writes status, cause and message; returns the status, so that a check reads `return flow_fail(error, ...)`. `what` is
 * a tvm_flow_status or a FLOW_FOR. */
__attribute__((format(printf, 3, 4))) tvm_flow_status flow_fail(tvm_flow_error *error, unsigned what,
                                                                const char *format, ...);

/* The messages that many places share, each stated once: NO_MEMORY, INVALID_ARGUMENT for a null pointer among the
 * arguments of `function`, and for a table of the options that is absent behind its count. */
tvm_flow_status flow_no_memory(tvm_flow_error *error, const char *what);
tvm_flow_status flow_null(tvm_flow_error *error, const char *function);
tvm_flow_status flow_no_rows(tvm_flow_error *error, const char *table, uint32_t rows);

/* CORRUPT: a number of `file` that is another one, a WRONG_STEP_TABLE; a file of another size, TRUNCATED or CHANGED. */
tvm_flow_status flow_corrupt(tvm_flow_error *error, const char *file, const char *what, uint64_t expected,
                             uint64_t got);
tvm_flow_status flow_wrong_bytes(tvm_flow_error *error, const char *file, uint64_t expected, uint64_t got);

/* NOT_FINITE unless all `count` values are numbers: what step graphs, updates and decoders make, where a product of
 * ranges that were exceeded is no video, and the latents that a step is given, whose quantization would hide it.
 * `unit` and `number` say where: a step or a chunk. */
tvm_flow_status flow_expect_finite(const char *unit, uint32_t number, const char *what, const float *values,
                                   uint64_t count, tvm_flow_error *error);

#endif
