/* A region of a network, compiled for an Ethos-U. Memory is addressed by regions, as vela numbers them:
 *
 *   0 weights    1 scratch, with the input and the output in it    2 fast scratch, in an accelerator's own memory
 */
#ifndef TVM_FLOW_ETHOSU_REGION_H
#define TVM_FLOW_ETHOSU_REGION_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const char *accelerator; /* that it was compiled for: "ethos-u85-512" */
  const uint8_t *commands; /* for Arm's driver, which takes them with what is to be set before; aligned to 16 */
  const uint8_t *weights;  /* with their scales; aligned to 16 */
  uint32_t commands_bytes;
  uint32_t stream_offset; /* of the accelerator's own words in `commands`, to their end: what Linux takes */
  uint32_t weights_bytes;
  uint32_t scratch_bytes; /* aligned to 16 */
  uint32_t fast_bytes;    /* 0: none is used */
  uint32_t num_inputs;
  const uint32_t *input_offsets; /* in the scratch */
  uint32_t output_offset;
  uint64_t macs;
  uint64_t cycles; /* vela's estimate for its default system: compare with each other only */
} ethosu_region;

/* A call of a step, in order. What lies between is the program's affair: calls of other kernels. */
typedef struct {
  const char *kernel;
  const ethosu_region *region;
  uint32_t step;
  uint32_t branch;
  float input_scale; /* codes of the first input times this are values; the program's codes have to be such */
  float output_scale;
} ethosu_call;

#ifdef __cplusplus
}
#endif
#endif
