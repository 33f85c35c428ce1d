/* A step group around two kernels that TVM compiled: velocity = 2 * z with every row reversed, through a parallel loop
 * of one and the workspace of the other. */
#include <stddef.h>

#include "tvm_flow_library.h"

static _Thread_local const tvm_flow_services *services;

static const tvm_flow_services *enter(const tvm_flow_services *now) {
  const tvm_flow_services *before = services;
  services = now;
  return before;
}

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t num_parts);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t num_parts) {
  services->raise(services->user, kind, parts, num_parts);
}
static int launch(int (*task)(int, void *, void *), void *data, int num_tasks) {
  return services->parallel_launch(services->user, task, data, num_tasks);
}
static void *allocate(int type, int id, uint64_t bytes, int code, int bits) {
  (void)type, (void)id, (void)code, (void)bits;
  return services->allocate(services->user, bytes, 64);
}
static int release(int type, int id, void *pointer) {
  (void)type, (void)id;
  services->release(services->user, pointer);
  return 0;
}

int (*__TVMBackendParallelLaunch)(int (*)(int, void *, void *), void *, int) = launch;
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = release;

extern int __tvm_ffi_doubled(void *, const void *, int32_t, void *);
extern int __tvm_ffi_reversed(void *, const void *, int32_t, void *);

#ifndef TVM_ROWS
#define TVM_ROWS 64 /* another number makes the kernel's own shape check fail */
#endif

static const tvm_flow_tensor tensors[] = {
    {TVM_FLOW_ARENA, 2, 32, 2, 0, 0, {64, 256}},
    {TVM_FLOW_ARENA, 2, 32, 2, 0, 65536, {1, 1}},
    {TVM_FLOW_ARENA, 2, 32, 1, 0, 65600, {1}},
    {TVM_FLOW_ARENA, 2, 32, 2, 0, 65664, {TVM_ROWS, 16384 / TVM_ROWS}},
    {TVM_FLOW_ARENA, 2, 32, 2, 0, 131200, {64, 256}},
};
static const tvm_flow_kernel kernels[] = {__tvm_ffi_doubled, __tvm_ffi_reversed};
static const char *const names[] = {"doubled", "reversed"};
static const uint32_t args[] = {0, 3, 3, 4};
static const tvm_flow_call calls[] = {{0, 0, 2}, {1, 2, 2}};
static const uint32_t inputs[] = {0, 1, 2};

__attribute__((visibility("default"))) const tvm_flow_library_descriptor tvm_flow_library = {
    .abi = TVM_FLOW_ABI,
    .struct_bytes = sizeof(tvm_flow_library_descriptor),
    .target = "host",
    .cpu_features = "",
    .arena_bytes = 196736,
    .num_tensors = 5,
    .num_kernels = 2,
    .num_calls = 2,
    .num_args = 4,
    .num_inputs = 3,
    .tensors = tensors,
    .kernels = kernels,
    .kernel_names = names,
    .calls = calls,
    .args = args,
    .inputs = inputs,
    .output = 4,
    .enter = enter,
};
