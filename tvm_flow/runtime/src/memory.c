/* The pools of a handle in numbers, before any but the tables is taken. */
#include "../include/tvm_flow_memory.h"
#include "decoder.h"
#include "device_cpu.h"
#include "flow.h"

/* As a library may say any number, sums stay at the largest one. */
static void add(uint64_t *sum, uint64_t bytes) {
  if (__builtin_add_overflow(*sum, bytes, sum)) *sum = UINT64_MAX;
}

static uint64_t times(uint64_t count, uint64_t bytes) {
  uint64_t product;
  return __builtin_mul_overflow(count, bytes, &product) ? UINT64_MAX : product;
}

static void add_plans(tvm_flow_memory *memory, const flow_signature *signature, const flow_library *libraries) {
  add(&memory->tables_bytes, flow_rounded(signature->num_groups * sizeof(flow_plan)));
  for (uint32_t g = 0; g < signature->num_groups; g++) {
    add(&memory->tables_bytes, flow_plan_bytes(libraries[g].descriptor));
    add(&memory->step_bytes, flow_rounded(libraries[g].descriptor->step_bytes));
  }
}

static void add_devices(tvm_flow_memory *memory, const flow_signature *signature, const flow_devices *devices) {
  const flow_device *cpu = &devices->rows[0];
  add(&memory->tables_bytes, flow_cpu_bytes());
  add(&memory->arena_bytes, flow_rounded(cpu->arena_bytes));
  add(&memory->prompt_bytes, times(signature->branches, flow_rounded(cpu->prompt_bytes)));
  for (uint32_t i = 1; i < devices->count; i++) {
    add(&memory->device_bytes, devices->rows[i].arena_bytes);
    add(&memory->device_bytes, times(signature->branches, devices->rows[i].prompt_bytes));
  }
}

/* Adds the pools up, and names the first with which the sum passes the limit. */
static tvm_flow_status add_up(tvm_flow_memory *memory, uint64_t limit, tvm_flow_error *error) {
  const struct {
    char name[24]; /* no pointer: it would be relocated */
    uint64_t bytes;
  } pools[] = {{"tables", memory->tables_bytes},          {"constants of a step", memory->step_bytes},
               {"latents", memory->latent_bytes},         {"prompts", memory->prompt_bytes},
               {"the arena", memory->arena_bytes},        {"other devices", memory->device_bytes}};
  tvm_flow_status s = TVM_FLOW_OK;
  for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
    const uint64_t before = memory->total_bytes;
    add(&memory->total_bytes, pools[i].bytes);
    if (!s && limit && memory->total_bytes > limit)
      s = flow_fail(error, TVM_FLOW_NO_MEMORY, "options.memory_limit: expected room for %s, %llu bytes, got %llu of "
                    "%llu left; raise it, or take a smaller model", pools[i].name, (unsigned long long)pools[i].bytes,
                    (unsigned long long)(limit - before), (unsigned long long)limit);
  }
  return s;
}

tvm_flow_status flow_memory_plan(flow_function *function, const flow_signature *signature,
                                 const tvm_flow_options *options, const flow_library *libraries,
                                 tvm_flow_error *error) {
  tvm_flow_memory *memory = &function->memory;
  const flow_map *weights = &function->weights;
  *memory = (tvm_flow_memory){.tables_bytes = signature->table_bytes,
                              .latent_bytes = signature->latent_bytes,
                              .weights_bytes = weights->bytes};
  add_plans(memory, signature, libraries);
  add_devices(memory, signature, &function->devices);
  add(&memory->tables_bytes, flow_pool_bytes(options));
  if (weights->owner == FLOW_COPIED) add(&memory->tables_bytes, flow_rounded(weights->bytes + 1));
  return add_up(memory, options->memory_limit, error);
}

/* What nothing reads after a run: the arena, and PROMPT, which each run fills again. */
static tvm_flow_status trim(flow_function *function) {
  const tvm_flow_status s = flow_function_take(function, "trim", NULL);
  if (s) return s;
  flow_cpu_trim(function->devices.rows[0].device);
  if (function->weights.owner == FLOW_MAPPED)
    flow_system_drop(function->weights.data, function->weights.bytes);
  flow_function_leave(function);
  return TVM_FLOW_OK;
}

tvm_flow_status tvm_flow_trim(tvm_flow *flow) { return flow ? trim(&flow->function) : TVM_FLOW_OK; }

tvm_flow_status tvm_flow_decoder_trim(tvm_flow_decoder *decoder) {
  return decoder ? trim(&decoder->function) : TVM_FLOW_OK;
}
