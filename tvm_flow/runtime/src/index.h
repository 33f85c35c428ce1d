/* steps.bin: everything of a bundle that the loop needs besides libraries and weights.
 *
 * Little endian. The sections follow each other in this order, each padded with zeros to 64 bytes, so that every
 * position follows from the header's counts and none can lie:
 *
 *   header    flow_index_header, 192 bytes
 *   sampler   JSON text, sampler_bytes long
 *   groups    flow_index_group, 192 bytes, [groups]
 *   t         float32 [steps]
 *   updates   tvm_flow_update, 40 bytes, [steps]
 *   records   float32 [steps][step_floats]
 *   variants  flow_index_variant, 16 bytes, [steps][branches]
 *   values    float32 [variant_values]
 *   digest    sha256 of all bytes before it
 */
#ifndef TVM_FLOW_INDEX_H
#define TVM_FLOW_INDEX_H

#include "file.h"
#include "host.h"

#define FLOW_INDEX_MAGIC "TVMFLOW"
#define FLOW_INDEX_SCHEMA 3u
#define FLOW_INDEX_OLDEST 2u /* had zeros where weights_first and library_bytes are */
enum { FLOW_INDEX_ALIGN = 64, FLOW_PATH_BYTES = 152 };

typedef struct {
  char magic[8];
  uint32_t schema;
  uint32_t header_bytes;
  uint64_t file_bytes;
  uint32_t steps;
  uint32_t branches;
  uint32_t groups;
  uint32_t step_floats;
  uint32_t guided_channels;
  uint32_t output_channels; /* those of the latent, or twice as many with a learned variance */
  uint32_t latent_ndim;
  uint32_t text_tokens;
  uint32_t text_channels;
  uint32_t sampler_bytes;
  uint32_t latent_shape[TVM_FLOW_MAX_LATENT_DIMS]; /* 1 past latent_ndim */
  uint64_t variant_values;
  uint64_t weights_bytes;
  uint8_t weights_sha256[FLOW_SHA256_BYTES];
  uint8_t golden_sha256[FLOW_SHA256_BYTES];
  double cfg_scale;
  uint32_t weights_first; /* bytes of the weights' file before those that libraries name */
  uint32_t golden_steps; /* of the golden output; 0 for all, FLOW_NOT_COMPUTED when nobody knows it */
} flow_index_header;

#define FLOW_NOT_COMPUTED UINT32_MAX /* golden_steps of an unchecked bundle */

typedef struct {
  uint8_t sha256[FLOW_SHA256_BYTES];
  uint32_t variant_floats;
  uint32_t library_bytes; /* of the file; 0: not stated */
  char path[FLOW_PATH_BYTES]; /* relative to the bundle, zero-padded, at least one zero */
} flow_index_group;

typedef struct {
  uint32_t group;
  uint32_t reserved;
  uint64_t first; /* index into values */
} flow_index_variant;

_Static_assert(sizeof(flow_index_header) == 192, "layout of steps.bin");
_Static_assert(sizeof(flow_index_group) == 192, "layout of steps.bin");
_Static_assert(sizeof(flow_index_variant) == 16, "layout of steps.bin");
_Static_assert(sizeof(tvm_flow_update) == 40, "layout of steps.bin");

/* steps.bin, copied and checked: its numbers index the plans. All pointers lie inside the copy, but for the JSON, which
 * ends in a zero. */
typedef struct {
  const flow_host *host;
  flow_copy file;
  const flow_index_header *header;
  char *sampler;
  const flow_index_group *groups;
  const float *t;
  const tvm_flow_update *updates;
  const float *records;
  const flow_index_variant *variants;
  const float *values;
  uint64_t latent_floats;
  uint64_t output_floats; /* of a step graph */
  uint64_t text_floats;
  int draws_noise; /* a step has a sigma */
} flow_index;

/* On failure nothing is held. Library paths are relative and stay inside the bundle once this succeeds. */
tvm_flow_status flow_index_open(const char *bundle_dir, const flow_host *host, flow_index *out,
                                tvm_flow_error *error);

void flow_index_close(flow_index *index);

/* Maps golden.bin, of the size and hash that `index` says. Also after a failure flow_unmap frees it. */
tvm_flow_status flow_map_golden(const char *bundle_dir, const flow_index *index, flow_map *out, tvm_flow_error *error);

/* True for a relative path of plain components: nothing that leaves the bundle. `path` is FLOW_PATH_BYTES long. */
int flow_path_is_safe(const char *path);

#endif
