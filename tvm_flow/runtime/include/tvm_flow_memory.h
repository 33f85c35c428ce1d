/* What a handle takes, known before it is taken, and giving pages back while nothing runs.
 *
 *   tvm_flow_memory steps, frames;
 *   tvm_flow_plan("model.bundle", NULL, &steps, &error);
 *   tvm_flow_decoder_plan("model.bundle", NULL, &frames, &error);
 *   // A program that closes the tvm_flow before it opens the decoder holds the larger of the two totals at a time.
 *
 * options.memory_limit makes open refuse a total above it, with TVM_FLOW_NO_MEMORY and the pool that passes it, before
 * arena, prompts and latents are allocated.
 */
#ifndef TVM_FLOW_MEMORY_H
#define TVM_FLOW_MEMORY_H

#include "tvm_flow_decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the pools of a handle, each held from open to close. Not among them: what a kernel asks for while it runs,
 * stacks of threads, one latent during verify, and during open the copy of one library. */
typedef struct {
  uint64_t tables_bytes;  /* steps.bin, and the tables of plans and threads */
  uint64_t step_bytes;    /* constants of a step, of all groups */
  uint64_t latent_bytes;  /* latents, predictions, drawn noise */
  uint64_t prompt_bytes;  /* what the steps of a prompt share, of all branches */
  uint64_t arena_bytes;   /* activations */
  uint64_t device_bytes;  /* arenas and prompts of devices other than the CPU, in their own memory */
  uint64_t total_bytes;   /* of the six */
  /* Mapped read-only, not in the total: pages that the system may drop. Where they are copied (tvm_flow_files.h) they
   * are memory like the others, and in tables_bytes too. */
  uint64_t weights_bytes;
} tvm_flow_memory;

/* What open would take with these options. Opens what it needs to know that, libraries too, which are checked as open
 * does; hashes no weights, takes none of the larger pools, closes all. Errors are those of open, but for NO_THREAD. */
TVM_FLOW_API tvm_flow_status tvm_flow_plan_sized(const char *bundle_dir, const tvm_flow_options *options,
                                                 tvm_flow_memory *out, size_t bytes, tvm_flow_error *error);
#define tvm_flow_plan(bundle_dir, options, out, error) \
  tvm_flow_plan_sized(bundle_dir, options, out, sizeof(tvm_flow_memory), error)
TVM_FLOW_API tvm_flow_status tvm_flow_decoder_plan_sized(const char *bundle_dir, const tvm_flow_options *options,
                                                         tvm_flow_memory *out, size_t bytes, tvm_flow_error *error);
#define tvm_flow_decoder_plan(bundle_dir, options, out, error) \
  tvm_flow_decoder_plan_sized(bundle_dir, options, out, sizeof(tvm_flow_memory), error)

/* Gives the pages of arena and prompts back to the system, and those of mapped weights; the next run
 * takes them again, and reads weights from disk where the system did drop them. For a program that is told to save
 * memory (Android's onTrimMemory). The handle and its results stay as they were; memory of other devices stays.
 * OK, BUSY while a function runs, FORKED. */
TVM_FLOW_API tvm_flow_status tvm_flow_trim(tvm_flow *flow);
TVM_FLOW_API tvm_flow_status tvm_flow_decoder_trim(tvm_flow_decoder *decoder);

#ifdef __cplusplus
}
#endif
#endif
