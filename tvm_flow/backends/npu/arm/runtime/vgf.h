/* A VGF as Arm's model converter writes it (format 0.5): one graph of one segment. Nothing of it is trusted, and
 * nothing is copied but shapes: the bytes stay where they are.
 *
 *   0    "VGF1", then the version of Vulkan's headers, the format's version (major, minor, patch) at 8
 *   16   offset and bytes of four sections: modules, the sequence of segments, resources, constants
 *   128  the sections; the first three are FlatBuffers (schema/vgf.fbs of Arm's VGF library), constants are
 *        "CONST00\0", their count, 24 bytes for each (resource, sparsity, bytes, offset), and their data
 */
#ifndef TVM_FLOW_VGF_H
#define TVM_FLOW_VGF_H

#include "vk_arm.h"

enum { VGF_MOST_RANK = 6 };

/* An input, output or constant of the graph. */
typedef struct {
  int64_t shape[VGF_MOST_RANK];
  uint32_t rank;
  VkFormat format;
  uint32_t element; /* bytes */
  uint32_t binding; /* of set 0; for a constant its number in the module */
  uint64_t bytes;
} vgf_tensor;

typedef struct {
  const uint8_t *data;
  uint64_t bytes;
} vgf_section;

typedef struct {
  vgf_section modules, sequence, resources, constants;
  const uint32_t *words; /* the SPIR-V module */
  uint32_t num_words;
  const char *entry; /* ends with 0 */
  uint32_t num_inputs, num_outputs, num_constants;
  uint64_t inputs, outputs, constant_numbers, entries; /* where those vectors are in their sections */
  uint32_t num_entries;
} vgf;

/* NULL, or what is wrong with the file. */
const char *vgf_open(vgf *file, const uint8_t *data, uint64_t bytes);

/* Input or, from num_inputs on, output `index`. NULL, or what is wrong. */
const char *vgf_argument(const vgf *file, uint32_t index, vgf_tensor *out);

/* Constant `index` and its bytes. */
const char *vgf_constant(const vgf *file, uint32_t index, vgf_tensor *out, const uint8_t **data);

#endif
