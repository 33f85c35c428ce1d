/* Regions on Linux, by the kernel's own driver (drivers/accel/ethosu). Every function that can fail gives 0, or an
 * errno that is negative; a handle is used by one thread at a time.
 *
 *   ethosu_linux npu;
 *   ethosu_job fc1;
 *   if (!ethosu_linux_open(&npu, "/dev/accel/accel0") && !ethosu_linux_load(&npu, &region_fc1, &fc1)) {
 *     memcpy(fc1.memory + region_fc1.input_offsets[0], x, sizeof x);
 *     if (!ethosu_linux_run(&fc1, 1000000000)) memcpy(y, fc1.memory + region_fc1.output_offset, sizeof y);
 *   }
 */
#ifndef TVM_FLOW_ETHOSU_LINUX_H
#define TVM_FLOW_ETHOSU_LINUX_H
#include "ethosu_region.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  int file;
  uint32_t id; /* as the kernel gives it */
  uint32_t sram_bytes;
} ethosu_linux;

/* A region that is loaded: buffers of commands, weights and scratch. */
typedef struct {
  const ethosu_linux *npu;
  const ethosu_region *region;
  uint32_t commands, weights, scratch; /* handles */
  uint32_t fast;                       /* 0: none is needed, or the accelerator's own memory has room */
  uint8_t *memory;                     /* the scratch, mapped */
} ethosu_job;

int ethosu_linux_open(ethosu_linux *npu, const char *path);
void ethosu_linux_close(ethosu_linux *npu);

/* ethosu_linux_unload frees the job, which a failure leaves empty. */
int ethosu_linux_load(const ethosu_linux *npu, const ethosu_region *region, ethosu_job *job);
void ethosu_linux_unload(ethosu_job *job);

/* -ETIME: it did not end within so many ns, and may still run. */
int ethosu_linux_run(const ethosu_job *job, int64_t nanoseconds);

#ifdef __cplusplus
}
#endif
#endif
