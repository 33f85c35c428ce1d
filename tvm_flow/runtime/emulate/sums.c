/* Adds up integer products as the kernels of a bundle do, without their epilogues: sums.
 *
 * Reads requests from stdin until it ends, each a uint32 index into `sums_kernels` and the bytes of X and of the
 * packed W, and writes C [m, n] int32 for each to stdout; little endian. tvm_flow.check.sums feeds it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "sums.h"

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
  void *data = allocate(0, 0, bytes, 0, 8);
  if (data && fread(data, 1, bytes, stdin) == bytes) return data;
  free(data);
  return NULL;
}

static int serve(const sums_kernel *k) {
  int64_t shape_x[] = {k->m, k->k}, shape_c[] = {k->m, k->n};
  int64_t shape_w[] = {k->blocks, k->k / k->depth, k->columns, k->depth};
  void *x = get((size_t)(k->m * k->k)), *w = x ? get((size_t)(k->blocks * k->columns * k->k)) : NULL;
  const size_t count = (size_t)(k->m * k->n);
  int32_t *c = w ? allocate(0, 0, count * sizeof *c, 0, 32) : NULL;
  int code = 1;
  if (c) {
    tensor tensors[] = {{x, {1, 0}, 2, 0, 8, 1, shape_x, NULL, 0},
                        {w, {1, 0}, 4, 0, 8, 1, shape_w, NULL, 0},
                        {c, {1, 0}, 2, 0, 32, 1, shape_c, NULL, 0}};
    argument args[] = {{7, 0, &tensors[0]}, {7, 0, &tensors[1]}, {7, 0, &tensors[2]}}, result = {0, 0, NULL};
    code = k->kernel(NULL, args, 3, &result) || fwrite(c, sizeof *c, count, stdout) != count || fflush(stdout);
  }
  free(c);
  free(w);
  free(x);
  return code;
}

int main(void) {
  uint32_t index;
  while (fread(&index, sizeof index, 1, stdin) == 1)
    if (index >= sums_count || serve(&sums_kernels[index])) return 1;
  return 0;
}
