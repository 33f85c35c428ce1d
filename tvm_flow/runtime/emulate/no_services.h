/* What a kernel calls and is called with, in the small programs of tvm_flow.check: one thread, libc's memory. */
#ifndef TVM_FLOW_NO_SERVICES_H
#define TVM_FLOW_NO_SERVICES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "launch.h"

static inline flow_dltensor tensor_of(void *data, uint8_t code, uint8_t bits, int32_t ndim, int64_t *shape) {
  return (flow_dltensor){.data = data,
                         .device = {.device_type = FLOW_DL_CPU, .device_id = 0},
                         .ndim = ndim,
                         .dtype = {.code = code, .bits = bits, .lanes = 1},
                         .shape = shape,
                         .strides = NULL,
                         .byte_offset = 0};
}

static inline flow_any argument(flow_dltensor *tensor) {
  return (flow_any){.type_index = FLOW_TYPE_DLTENSOR_PTR, .zero_padding = 0, {.v_ptr = tensor}};
}

static void *allocate(int type, int id, uint64_t bytes, int code, int bits) {
  (void)type, (void)id, (void)code, (void)bits;
  return aligned_alloc(64, ((size_t)bytes + 63) / 64 * 64);
}

static int release(int type, int id, void *pointer) {
  (void)type, (void)id;
  free(pointer);
  return 0;
}

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t num_parts);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t num_parts) {
  fputs(kind, stderr);
  for (int32_t i = 0; i < num_parts; i++) fputs(parts[i], stderr);
}

int (*__TVMBackendParallelLaunch)(int (*)(int, void *, void *), void *, int) = launch;
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = release;

static inline void *get(size_t bytes) {
  void *data = allocate(0, 0, bytes ? bytes : 1, 0, 8);
  if (data && fread(data, 1, bytes, stdin) == bytes) return data;
  free(data);
  return NULL;
}

#endif
