/* What a target of the fuzzer has, and what it may use of the driver. */
#ifndef TVM_FLOW_FUZZ_DRIVER_H
#define TVM_FLOW_FUZZ_DRIVER_H

#include <stddef.h>
#include <stdint.h>

enum { MOST_INPUT = 1 << 14 }; /* of an input */

/* Runs what reads `data` as it is, then with its digest made to fit where it has one. libFuzzer's interface. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Runs it as it is alone; 0 where it is accepted. */
int target_attempt(const uint8_t *data, size_t bytes);

/* An input to begin with; may be left out. */
size_t target_seed(uint8_t *out, size_t most);

#endif
