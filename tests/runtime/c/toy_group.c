/* A step group written by hand: a prologue of one kernel, a step of two over float32 and int32, one of them parallel,
 * and all three folds.
 * Macros make a second group, or damage one table, for the tests. toy_bundle.py holds the same model in numpy. */
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "tvm_flow_library.h"

#ifndef TOY_SIGN
#define TOY_SIGN 1.0f /* the second group subtracts */
#endif
#ifndef TOY_VARIANT_FLOATS
#define TOY_VARIANT_FLOATS 5
#endif
#ifndef TOY_ABI
#define TOY_ABI TVM_FLOW_ABI
#endif
#ifndef TOY_STRUCT_BYTES
#define TOY_STRUCT_BYTES sizeof(tvm_flow_library_descriptor)
#endif
#ifndef TOY_CPU
#define TOY_CPU ""
#endif
#ifndef TOY_WEIGHTS_BYTES
#define TOY_WEIGHTS_BYTES 512
#endif
#ifndef TOY_ENTER
#define TOY_ENTER enter
#endif
#ifndef TOY_V_OFFSET
#define TOY_V_OFFSET 448
#endif
#ifndef TOY_V_SHAPE0
#define TOY_V_SHAPE0 4
#endif
#ifndef TOY_VARIANCE
#define TOY_VARIANCE 0 /* 1: a second half, an eighth of the first; with TOY_V_SHAPE0 8 and TOY_ARENA_BYTES 704 */
#endif
#ifndef TOY_V_BITS
#define TOY_V_BITS 32
#endif
#ifndef TOY_V_SPACE
#define TOY_V_SPACE TVM_FLOW_ARENA
#endif
#ifndef TOY_LAST_ARG
#define TOY_LAST_ARG 9
#endif
#ifndef TOY_LAST_KERNEL
#define TOY_LAST_KERNEL 2
#endif
#ifndef TOY_LAST_COUNT
#define TOY_LAST_COUNT 4
#endif
#ifndef TOY_FOLD_OUT
#define TOY_FOLD_OUT 0
#endif
#ifndef TOY_FOLD_OP
#define TOY_FOLD_OP TVM_FLOW_FOLD_SCALE
#endif
#ifndef TOY_FOLD_A
#define TOY_FOLD_A 0
#endif
#ifndef TOY_FOLD_B
#define TOY_FOLD_B 0
#endif
#ifndef TOY_NUM_INPUTS
#define TOY_NUM_INPUTS 3
#endif
#ifndef TOY_TENSORS
#define TOY_TENSORS tensors
#endif
#ifndef TOY_ARENA_BYTES
#define TOY_ARENA_BYTES 576
#endif
#ifndef TOY_PROMPT_BYTES
#define TOY_PROMPT_BYTES 80
#endif
#ifndef TOY_CONTEXT_SPACE
#define TOY_CONTEXT_SPACE TVM_FLOW_PROMPT
#endif
#ifndef TOY_CONTEXT_OFFSET
#define TOY_CONTEXT_OFFSET 64
#endif
#ifndef TOY_PROLOGUE_CALLS
#define TOY_PROLOGUE_CALLS 1
#endif
/* TOY_HELD: a path; while that file is there the prologue waits, and says so by another beside it */
#ifndef TOY_RESULT
#define TOY_RESULT 9
#endif
#ifndef TOY_FIRST_ARG
#define TOY_FIRST_ARG 1
#endif

enum { VALUES = 32, CHANNELS = 4, TOKENS = 3 };

static _Thread_local const tvm_flow_services *services;

static const tvm_flow_services *enter(const tvm_flow_services *now) {
  const tvm_flow_services *before = services;
  services = now;
  return before;
}

typedef struct {
  int32_t type_index;
  uint32_t padding;
  struct {
    void *data;
  } *tensor;
} any;

static void *data(const void *args, int i) { return ((const any *)args)[i].tensor->data; }

/* h = round(z * act + mod), int32 */
static int toy_modulate(void *self, const void *args, int32_t num_args, void *result) {
  const float *z = data(args, 0), *act = data(args, 1), *mod = data(args, 2);
  int32_t *h = data(args, 3);
  (void)self, (void)result, (void)num_args;
  for (int i = 0; i < VALUES; i++) h[i] = (int32_t)rintf(z[i] * act[i] + mod[i]);
  return 0;
}

/* context[c] = sum of the tokens that the mask keeps, times a scale; goes through workspace */
static int toy_context(void *self, const void *args, int32_t num_args, void *result) {
  const float *y = data(args, 0), *mask = data(args, 1), *scale = data(args, 2);
  float *sum = services->allocate(services->user, CHANNELS * sizeof(float), 64);
  (void)self, (void)result, (void)num_args;
#ifdef TOY_HELD
  const struct timespec moment = {.tv_nsec = 1000000};
  if (access(TOY_HELD, F_OK) == 0) close(creat(TOY_HELD ".reached", 0600));
  for (int i = 0; i < 60000 && access(TOY_HELD, F_OK) == 0; i++) nanosleep(&moment, NULL);
#endif
#ifdef TOY_RAISE
  static const char *parts[] = {"the toy ", "was told to fail"};
  services->raise(services->user, "ValueError", parts, 2);
  services->release(services->user, sum);
  return -1;
#endif
  if (!sum) return -1;
  memset(sum, 0, CHANNELS * sizeof(float));
  for (int l = 0; l < TOKENS; l++)
    for (int c = 0; c < CHANNELS; c++)
      if (mask[l] == 0.0f) sum[c] += y[l * CHANNELS + c];
  float *context = data(args, 3);
  for (int c = 0; c < CHANNELS; c++) context[c] = sum[c] * scale[c];
  services->release(services->user, sum);
  return 0;
}

typedef struct {
  const int32_t *h;
  const float *mod;
  const float *context;
  float *v;
} velocity_data;

static int velocity_task(int id, void *group, void *argument) {
  const velocity_data *d = argument;
  int count = ((const struct { void *sync; int32_t num_task; } *)group)->num_task;
  for (int i = VALUES * id / count; i < VALUES * (id + 1) / count; i++) {
    d->v[i] = (float)d->h[i] * d->mod[i] + TOY_SIGN * d->context[i / (VALUES / CHANNELS)];
    if (TOY_VARIANCE) d->v[VALUES + i] = 0.125f * d->v[i];
  }
#ifdef TOY_TASK_FAILS
  if (id == count - 1) {
    static const char *parts[] = {"last task"};
    services->raise(services->user, "RuntimeError", parts, 1);
    return -7;
  }
#endif
  return 0;
}

/* v = h * mod + sign * context, in parallel */
static int toy_velocity(void *self, const void *args, int32_t num_args, void *result) {
  velocity_data d = {data(args, 0), data(args, 1), data(args, 2), data(args, 3)};
  (void)self, (void)result, (void)num_args;
  return services->parallel_launch(services->user, velocity_task, &d, 0);
}

static const tvm_flow_fold folds[] = {
    {TOY_FOLD_OP, VALUES, TOY_FOLD_OUT, TOY_FOLD_A, TOY_FOLD_B, TVM_FLOW_NONE},
    {TVM_FLOW_FOLD_AFFINE, VALUES, 128, 0, 128, 256},
    {TVM_FLOW_FOLD_AFFINE, VALUES, 256, 2, 384, TVM_FLOW_NONE},
    {TVM_FLOW_FOLD_COPY, 4, 384, TOY_VARIANT_FLOATS - 4, 0, 0},
};
static const tvm_flow_kernel kernels[] = {toy_context, toy_modulate, toy_velocity};
static const char *const names[] = {"toy_context", "toy_modulate", "toy_velocity"};

#define F32 2, 32
#ifndef TOY_TABLES /* toy_split.c has others */
static const tvm_flow_tensor tensors[] = {
    {TVM_FLOW_ARENA, F32, 4, 0, 0, {4, 2, 2, 2}},          /* 0 z */
    {TVM_FLOW_ARENA, F32, 2, 0, 256, {3, 4}},              /* 1 y, where the step puts h */
    {TVM_FLOW_ARENA, F32, 4, 0, 192, {1, 1, 1, 3}},        /* 2 mask */
    {TVM_FLOW_STEP, F32, 4, 0, 0, {4, 2, 2, 2}},           /* 3 act */
    {TVM_FLOW_STEP, F32, 4, 0, 128, {4, 2, 2, 2}},         /* 4 mod */
    {TVM_FLOW_STEP, F32, 4, 0, 256, {4, 2, 2, 2}},         /* 5 mod of the output */
    {TVM_FLOW_STEP, F32, 1, 0, 384, {4}},                  /* 6 context scale */
    {TVM_FLOW_ARENA, 0, 32, 4, 0, 256, {4, 2, 2, 2}},      /* 7 h */
    {TOY_CONTEXT_SPACE, F32, 1, 0, TOY_CONTEXT_OFFSET, {4}}, /* 8 context */
    {TOY_V_SPACE, 2, TOY_V_BITS, 4, 0, TOY_V_OFFSET, {TOY_V_SHAPE0, 2, 2, 2}}, /* 9 v */
    {TVM_FLOW_WEIGHTS, F32, 1, 0, 384, {32}},              /* 10 part of the weights */
};
static const uint32_t args[] = {TOY_FIRST_ARG, 2, 6, 8, 0, 3, 4, 7, 7, 5, 8, TOY_LAST_ARG};
static const tvm_flow_call calls[] = {{0, 0, 4}, {1, 4, 4}, {TOY_LAST_KERNEL, 8, TOY_LAST_COUNT}};
static const uint32_t inputs[] = {0, 1, 2};

__attribute__((visibility("default"))) const tvm_flow_library_descriptor tvm_flow_library = {
    .abi = TOY_ABI,
    .struct_bytes = TOY_STRUCT_BYTES,
    .target = "toy",
    .cpu_features = TOY_CPU,
    .arena_bytes = TOY_ARENA_BYTES,
    .step_bytes = 400,
    .prompt_bytes = TOY_PROMPT_BYTES,
    .weights_bytes = TOY_WEIGHTS_BYTES,
    .step_floats = 34,
    .variant_floats = TOY_VARIANT_FLOATS,
    .num_tensors = 11,
    .num_kernels = 3,
    .num_prologue_calls = TOY_PROLOGUE_CALLS,
    .num_calls = 3,
    .num_args = 12,
    .num_folds = 4,
    .num_inputs = TOY_NUM_INPUTS,
    .tensors = TOY_TENSORS,
    .kernels = kernels,
    .kernel_names = names,
    .calls = calls,
    .args = args,
    .folds = folds,
    .inputs = inputs,
    .output = TOY_RESULT,
    .enter = TOY_ENTER,
};
#endif
