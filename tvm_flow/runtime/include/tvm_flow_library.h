/* What a compiled step-group library exports: one descriptor, `tvm_flow_library`, of constant tables.
 *
 * A library holds the kernels of one step graph and the plan that strings them together: which kernel reads and
 * writes which tensor, and where each tensor lies. It names four memory spaces of each device (tvm_flow_device.h):
 *
 *   ARENA    activations, graph inputs and the output; reused by liveness; `arena_bytes` long
 *   WEIGHTS  constants that all steps share, memory-mapped read-only: the values of the bundle's weights.bin
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
 *   LESS    out[i] = out[i] - variant[a + i]                              (of what the folds before it made)
 *   FLIP    out[i] = variant[a + i] with the bits b flipped, b < 2^32     (integers whose bits are no finite floats)
 *
 * `a` counts floats from the start of the record; `b` and `c` are byte offsets into WEIGHTS (but FLIP's `b`) and `out`
 * into STEP, all three multiples of 4.
 *
 * Segments hand runs of calls to devices. They cover all calls once, in order, and none crosses from the prologue into
 * the step. Every tensor of a call lies on its segment's device. Before its calls a segment has its copies made: each
 * from a tensor of another device that was written earlier in the same part, or in PROMPT, to one in the segment's own
 * ARENA, or in the prologue its PROMPT. A segment without calls makes its copies alone: such is the last one where the
 * output was computed elsewhere; one between prologue and step belongs to the prologue. WEIGHTS and STEP are the same
 * on all devices and never copied. Without a table of segments all calls run on row 0, the CPU.
 *
 * A kernel has the packed calling convention of TVM 0.27 (tvm/ffi/c_api.h): args[i] is a TVMFFIAny of type index 7
 * (DLTensor pointer); 0 means success, anything else that `services->raise` was called. Only segments of the CPU call
 * kernels; others have a payload that their device reads.
 */
#ifndef TVM_FLOW_LIBRARY_H
#define TVM_FLOW_LIBRARY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TVM_FLOW_ABI 3u
#define TVM_FLOW_MAX_DIMS 8
#define TVM_FLOW_MAX_DEVICES 8
#define TVM_FLOW_NONE UINT64_MAX

enum { TVM_FLOW_ARENA = 0, TVM_FLOW_WEIGHTS = 1, TVM_FLOW_STEP = 2, TVM_FLOW_PROMPT = 3 };

/* DLPack's type codes: kDLInt 0, kDLUInt 1, kDLFloat 2. */
typedef struct {
  uint8_t space;
  uint8_t dtype_code;
  uint8_t dtype_bits;
  uint8_t ndim;
  uint32_t device; /* row of devices; 0: the CPU */
  uint64_t offset;
  int64_t shape[TVM_FLOW_MAX_DIMS];
} tvm_flow_tensor;

enum {
  TVM_FLOW_FOLD_COPY = 0,
  TVM_FLOW_FOLD_SCALE = 1,
  TVM_FLOW_FOLD_AFFINE = 2,
  TVM_FLOW_FOLD_INTEGER = 3,
  TVM_FLOW_FOLD_LESS = 4,
  TVM_FLOW_FOLD_FLIP = 5
};

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

typedef struct {
  const char *name;      /* of the tvm_flow_device_type; row 0 is "cpu" */
  uint64_t arena_bytes;  /* row 0: the descriptor's own two numbers */
  uint64_t prompt_bytes; /* for each branch */
} tvm_flow_device_row;

typedef struct {
  uint32_t device;     /* row of devices */
  uint32_t first_call; /* where the segment before ends */
  uint32_t num_calls;
  uint32_t first_copy; /* index into copies */
  uint32_t num_copies;
  uint32_t reserved;
  const void *payload; /* the device's own: a blob, or a table in the same ELF; NULL for the CPU */
  uint64_t payload_bytes;
} tvm_flow_segment;

/* Tensor indices, on different devices, of one type and shape, in ARENA or PROMPT. */
typedef struct {
  uint32_t from;
  uint32_t to;
} tvm_flow_copy;

enum { TVM_FLOW_LOG_ERROR = 0, TVM_FLOW_LOG_WARNING = 1, TVM_FLOW_LOG_INFO = 2 };

/* What kernels and devices ask of the handle that runs them: constant for its life, called from any of its threads.
 *
 * parallel_launch  runs task(id, group, data) for each id in 0 .. count-1 once and returns when all are done: 0, or
 *                  what a failing task returned. num_tasks > 0 is the count; 0 leaves it to the runtime. group is a
 *                  TVMParallelGroupEnv: a pointer, then the count as int32. data is the kernel's. A launch inside a
 *                  task runs on the task's own thread.
 * allocate         `bytes` of memory whose address `alignment`, a power of two from 8 to 4096, divides; the caller's
 *                  until release; without memory NULL, and the error is raised
 * release          NULL is allowed
 * raise            keeps "kind: parts..." for the caller's error; the first one of a plan counts. Copies the text.
 * log              one line for people, of a level above */
typedef struct tvm_flow_services {
  uint32_t struct_bytes; /* of the runtime's own; newer ones have more at the end */
  void *user;            /* goes with every call */
  int (*parallel_launch)(void *user, int (*task)(int task_id, void *group, void *data), void *data, int num_tasks);
  void *(*allocate)(void *user, uint64_t bytes, uint64_t alignment);
  void (*release)(void *user, void *memory);
  void (*raise)(void *user, const char *kind, const char **parts, int32_t num_parts);
  void (*log)(void *user, uint32_t level, const char *message);
} tvm_flow_services;

/* TVM's code names its services without a handle, so a library keeps a thread-local pointer to those of whoever runs it
 * on this thread. Sets it and returns the one before. The runtime enters before it calls a kernel, and on each worker
 * before a task of one. */
typedef const tvm_flow_services *(*tvm_flow_enter)(const tvm_flow_services *services);

typedef struct tvm_flow_library_descriptor {
  uint32_t abi;          /* TVM_FLOW_ABI */
  uint32_t struct_bytes; /* sizeof(tvm_flow_library_descriptor) */
  const char *target;    /* triple and CPU that the kernels were compiled for; for people */
  const char *cpu_features; /* space-separated names the CPU must report, e.g. "avx2 fma"; may be empty */
  uint64_t arena_bytes;
  uint64_t step_bytes;
  uint64_t prompt_bytes;
  uint64_t weights_bytes; /* least size of the values of weights.bin */
  uint32_t step_floats;   /* least length of a step record */
  uint32_t variant_floats;
  uint32_t num_tensors, num_kernels, num_prologue_calls, num_calls, num_args, num_folds, num_inputs;
  const tvm_flow_tensor *tensors;
  const tvm_flow_kernel *kernels; /* NULL where no segment of the CPU calls it */
  const char *const *kernel_names;
  const tvm_flow_call *calls;
  const uint32_t *args;
  const tvm_flow_fold *folds;
  const uint32_t *inputs; /* tensor indices: latent z, text tokens y, additive attention mask */
  uint32_t output;        /* tensor index: velocity, shaped like z */
  tvm_flow_enter enter;
  uint32_t num_devices, num_segments, num_copies; /* all 0: one segment of the CPU */
  const tvm_flow_device_row *devices; /* at most TVM_FLOW_MAX_DEVICES */
  const tvm_flow_segment *segments;
  const tvm_flow_copy *copies;
} tvm_flow_library_descriptor;

/* The one symbol that a library exports; any other would let libtvm, where a process has it, take a service over. */
extern const tvm_flow_library_descriptor tvm_flow_library;

#ifdef __cplusplus
}
#endif
#endif
