/* The table that tvm_flow.tune.race_program generates for race.c. */
#ifndef TVM_FLOW_RACE_H
#define TVM_FLOW_RACE_H

#include <stdint.h>

typedef int (*race_kernel)(void *self, const void *args, int32_t num_args, void *result);

extern const race_kernel race_kernels[];
extern const uint32_t race_count;

#endif
