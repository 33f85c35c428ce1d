/* What a compiled step-group library exports: one descriptor, `tvm_flow_library`, of constant tables.
 *
 * A library holds the kernels of one step graph and the plan that strings them together: which kernel reads and
 * writes which tensor, and where each tensor lies. It names four memory spaces that the runtime provides:
 *
 *   ARENA    activations, graph inputs and the output; reused by liveness; `arena_bytes` long
 *   WEIGHTS  constants that all steps share, memory-mapped read-only from the bundle's weights.bin
 *   STEP     constants of one (step, branch), `step_bytes` long, filled by running the `folds` before the first call
 *   PROMPT   what all steps of one prompt share (K and V of cross-attention), `prompt_bytes` long, one for each branch
 *
 * The first `num_prologue_calls` calls are the prologue, the others the step. The prologue reads no z and writes PROMPT
 * or ARENA; it runs before the first step that this group makes for a prompt, and again when another group has made one
 * for the same branch in between. The step reads PROMPT and writes ARENA. Nothing of ARENA is kept from one run of
 * either to the next. What the prologue reads of STEP is the same at all steps of a branch.
 *
 * Offsets of tensors are in bytes and multiples of 64. Integers are in the byte order of the target (little endian).
 * There are three inputs, z, y and mask, or latents alone for a decoder (tvm_flow_decoder.h), which has no prologue;
 * inputs and output are float32 in ARENA. The prologue and the step each find those that they read, as whole arguments
 * of a call, freshly written. The last argument of a call is written by it.
 * Every extent is at least 1, every table has at most 2^20 rows. STEP bytes that no fold writes are zero.
 *
 * The folds make a step's constants from three sources: `weights` (shared), `step` (float32, one record a step: what
 * depends on time alone, shared by the branches) and `variant` (float32, one record a step and branch: activation
 * scales and zero points).
 * Each is one or two IEEE single operations per element, never contracted, or one of integers, so that every machine
 * gets the same bits:
 *
 *   COPY    out[i] = variant[a + i]
 *   SCALE   out[i] = variant[a] * weights[b + i]
 *   AFFINE  out[i] = (step[a + i] + weights[b + i]) * weights[c + i]      (no multiplication when c is NONE)
 *   INTEGER out[i] = (int32) variant[a] * weights[b + i], in int32; variant[a] is a whole number within 2^24
 *
 * `a` counts floats from the start of the record; `b` and `c` are byte offsets into WEIGHTS and `out` into STEP, all
 * three multiples of 4.
 *
 * A kernel has the packed calling convention of TVM 0.27 (tvm/ffi/c_api.h): args[i] is a TVMFFIAny of type index 7
 * (DLTensor pointer); 0 means success, anything else that `hooks->raise` was called.
 */
#ifndef TVM_FLOW_LIBRARY_H
#define TVM_FLOW_LIBRARY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TVM_FLOW_ABI 2u
#define TVM_FLOW_MAX_DIMS 8
#define TVM_FLOW_NONE UINT64_MAX

enum { TVM_FLOW_ARENA = 0, TVM_FLOW_WEIGHTS = 1, TVM_FLOW_STEP = 2, TVM_FLOW_PROMPT = 3 };

/* DLPack's type codes: kDLInt 0, kDLUInt 1, kDLFloat 2. */
typedef struct {
  uint8_t space;
  uint8_t dtype_code;
  uint8_t dtype_bits;
  uint8_t ndim;
  uint32_t reserved;
  uint64_t offset;
  int64_t shape[TVM_FLOW_MAX_DIMS];
} tvm_flow_tensor;

enum { TVM_FLOW_FOLD_COPY = 0, TVM_FLOW_FOLD_SCALE = 1, TVM_FLOW_FOLD_AFFINE = 2, TVM_FLOW_FOLD_INTEGER = 3 };

typedef struct {
  uint32_t op;
  uint32_t count; /* elements */
  uint64_t out;
  uint64_t a;
  uint64_t b;
  uint64_t c;
} tvm_flow_fold;

typedef int (*tvm_flow_kernel)(void *self, const void *args, int32_t num_args, void *result);

typedef struct {
  uint32_t kernel;     /* index into kernels */
  uint32_t first_arg;  /* index into args */
  uint32_t num_args;   /* args[first_arg .. first_arg + num_args) are tensor indices; the last one is written */
} tvm_flow_call;

/* Functions that kernels need; the runtime fills them in before the first call, and kernels call them from any thread
 * of its pool while a plan runs. Handles that share a library share its table.
 *
 * parallel_launch  runs task(id, group, data) for each id in 0 .. count-1 once and returns when all are done: 0, or
 *                  what a failing task returned. num_tasks > 0 is the count; 0 leaves it to the runtime. group is a
 *                  TVMParallelGroupEnv: a pointer, then the count as int32. data is the kernel's. A launch inside a
 *                  task runs on the task's own thread.
 * alloc_workspace  `bytes` of memory on a 64-byte boundary, the kernel's until free_workspace; NULL without memory. The
 *                  device and type are not looked at.
 * free_workspace   0
 * raise            keeps "kind: parts..." for the caller's error; the first one of a plan counts. Copies the text. */
typedef struct {
  int (*parallel_launch)(int (*task)(int task_id, void *group, void *data), void *data, int num_tasks);
  void *(*alloc_workspace)(int device_type, int device_id, uint64_t bytes, int dtype_code, int dtype_bits);
  int (*free_workspace)(int device_type, int device_id, void *pointer);
  void (*raise)(const char *kind, const char **parts, int32_t num_parts);
} tvm_flow_hooks;

typedef struct tvm_flow_library_descriptor {
  uint32_t abi;          /* TVM_FLOW_ABI */
  uint32_t struct_bytes; /* sizeof(tvm_flow_library_descriptor) */
  const char *target;    /* triple and CPU that the kernels were compiled for; for people */
  const char *cpu_features; /* space-separated names the CPU must report, e.g. "avx2 fma"; may be empty */
  uint64_t arena_bytes;
  uint64_t step_bytes;
  uint64_t prompt_bytes;
  uint64_t weights_bytes; /* least size of weights.bin */
  uint32_t step_floats;   /* least length of a step record */
  uint32_t variant_floats;
  uint32_t num_tensors, num_kernels, num_prologue_calls, num_calls, num_args, num_folds, num_inputs;
  const tvm_flow_tensor *tensors;
  const tvm_flow_kernel *kernels;
  const char *const *kernel_names;
  const tvm_flow_call *calls;
  const uint32_t *args;
  const tvm_flow_fold *folds;
  const uint32_t *inputs; /* tensor indices: latent z, text tokens y, additive attention mask */
  uint32_t output;        /* tensor index: velocity, shaped like z */
  tvm_flow_hooks *hooks;
} tvm_flow_library_descriptor;

/* The one symbol that a library exports; any other would let libtvm, where a process has it, take a service over. */
extern const tvm_flow_library_descriptor tvm_flow_library;

#ifdef __cplusplus
}
#endif
#endif
