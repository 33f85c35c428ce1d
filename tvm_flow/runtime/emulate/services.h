/* What a kernel calls and is called with, in the small programs of tvm_flow.check: one thread, libc's memory. */
#ifndef TVM_FLOW_EMULATE_SERVICES_H
#define TVM_FLOW_EMULATE_SERVICES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
  void *data;
  int32_t device[2];
  int32_t ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t offset;
} tensor;

typedef struct {
  int32_t type, pad;
  tensor *value;
} argument;

static int launch(int (*task)(int, void *, void *), void *data, int count) {
  struct {
    void *sync;
    int32_t tasks;
  } group = {NULL, count > 0 ? count : 1};
  int code = 0;
  for (int id = 0; id < group.tasks; id++) code |= task(id, &group, data);
  return code;
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

static void *get(size_t bytes) {
  void *data = allocate(0, 0, bytes ? bytes : 1, 0, 8);
  if (data && fread(data, 1, bytes, stdin) == bytes) return data;
  free(data);
  return NULL;
}

#endif
