/* What a library holds for this device: one payload, the same for all of its segments, of 32-bit little-endian words,
 * at an address that 4 divides. It is written by payload.py beside this folder; the order of its parts is
 *
 *   header, modules, pipelines, constants, kernels, dispatches, args, calls, code
 *
 * each but code and calls a table of the structs below, code being the words of all SPIR-V modules, one after the
 * other, and calls a word for each call of the library: its row of kernels, or NONE for another device's.
 *
 * A kernel is what a call runs: dispatches, one after the other, with a barrier between two of which one writes what
 * the other touches. A dispatch runs a pipeline on a grid of workgroups; its args are storage buffers:
 *
 *   layout(set = 0, binding = B, std430) buffer ...     of 32-bit words (or vectors of them)
 *   layout(push_constant) uniform ... { uint at[N]; }   at[i]: word of the buffer where arg i begins
 *
 * An arg is an argument of the call by its position, or a part of SCRATCH, memory that belongs to the kernel while it
 * runs. Every arg has a binding, below 32; those that share one lie in one space at every call of the kernel, and their
 * binding covers all of them and what is between. Push constants are one word for each arg, in the order of args, and
 * nothing else: scales and zero points are arguments in STEP.
 *
 * A tensor begins at a multiple of 64 bytes and its binding ends after a whole 16 bytes: bytes past its end, up to
 * there, belong to nobody, and may be read as anything and written.
 *
 * What a module needs of a device are its OpCapability instructions; nothing else says so. A pipeline may name another
 * one as its `fallback`, of the same bindings, with the same results, which is taken where the device computes integer
 * dot products wrongly or cannot. The entry point is "main", of a fixed local size.
 */
#ifndef TVM_FLOW_VULKAN_PAYLOAD_H
#define TVM_FLOW_VULKAN_PAYLOAD_H

#include <stdint.h>

#define VF_PAYLOAD_MAGIC 0x4b564654u /* "TFVK" */
#define VF_PAYLOAD_VERSION 1u
#define VF_NONE UINT32_MAX

typedef struct {
  uint32_t magic;
  uint32_t version;
  uint32_t bytes; /* of everything */
  uint32_t num_modules;
  uint32_t num_pipelines;
  uint32_t num_constants;
  uint32_t num_kernels;
  uint32_t num_dispatches;
  uint32_t num_args;
  uint32_t num_calls; /* the library's */
  uint32_t code_words;
  uint32_t scratch_bytes; /* the most that a kernel needs */
} vf_header;

typedef struct {
  uint32_t first_word; /* of code */
  uint32_t words;
} vf_module;

typedef struct {
  uint32_t module;
  uint32_t fallback; /* row of pipelines, or NONE */
  uint32_t local[3]; /* as the module and its constants have it */
  uint32_t shared_bytes;
  uint32_t bindings; /* bit B: there is a binding B, and an arg at it */
  uint32_t num_args; /* of every dispatch */
  uint32_t first_constant;
  uint32_t num_constants;
} vf_pipeline;

/* A specialization constant of 32 bits. */
typedef struct {
  uint32_t id;
  uint32_t value;
} vf_constant;

typedef struct {
  uint32_t first_dispatch;
  uint32_t num_dispatches; /* at least 1 */
} vf_kernel;

typedef struct {
  uint32_t pipeline;
  uint32_t grid[3]; /* workgroups */
  uint32_t first_arg;
  uint32_t num_args;
} vf_dispatch;

enum { VF_READ = 1, VF_WRITE = 2 };

typedef struct {
  uint32_t position; /* among the arguments of the call, or NONE: of SCRATCH */
  uint32_t binding;
  uint32_t access; /* VF_READ, VF_WRITE or both */
  uint32_t offset; /* in SCRATCH, a multiple of 64 */
  uint32_t bytes;  /* of SCRATCH */
} vf_arg;

#endif
