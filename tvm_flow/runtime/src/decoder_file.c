#include "decoder_file.h"

#include <string.h>

#include "accept.h"
#include "limits.h"

static const char file_name[] = "decoder.bin";
enum { MOST = 4096 }; /* bytes of any schema */

static tvm_flow_status check_identity(const flow_map *map, tvm_flow_error *error) {
  static const flow_head head = {FLOW_DECODER_MAGIC, FLOW_DECODER_SCHEMA, FLOW_DECODER_OLDEST,
                                 sizeof(flow_decoder_header)};
  const uint64_t bytes = sizeof(flow_decoder_header) + FLOW_SHA256_BYTES;
  tvm_flow_status s = flow_check_whole(file_name, map, bytes, NULL, error);
  if (!s) s = flow_check_head(file_name, map, &head, error);
  return s || map->bytes == bytes ? s : flow_wrong_bytes(error, file_name, bytes, map->bytes);
}

/* Product of four positive sizes, or 0 when it is beyond what a tensor may have. */
static uint64_t elements(const uint32_t shape[4]) {
  uint64_t count = 1;
  for (int i = 0; i < 4; i++) {
    if (shape[i] < 1 || shape[i] > FLOW_MAX_FRAME_ELEMENTS) return 0;
    count *= shape[i];
    if (count > FLOW_MAX_FRAME_ELEMENTS) return 0;
  }
  return count;
}

static tvm_flow_status check_sizes(flow_decoder_file *file, tvm_flow_error *error) {
  const flow_decoder_header *h = &file->header;
  uint64_t latents = elements(h->latent_shape), values = elements(h->frame_shape);
  int whole = h->chunk >= 1 && latents && h->latent_shape[1] % h->chunk == 0;
  if (!whole || !values || h->frame_shape[3] != 3)
    return flow_fail(error, FLOW_FOR(CORRUPT, WRONG_STEP_TABLE),
                     "decoder.bin: expected sizes of at most 2^30 values, chunks that divide %u latent frames and 3 "
                     "colours, got chunks of %u and %u colours; pack the bundle again",
                     h->latent_shape[1], h->chunk, h->frame_shape[3]);
  file->chunks = h->latent_shape[1] / h->chunk;
  file->latent_floats = latents / file->chunks;
  file->frame_values = values;
  if (file->chunks * h->frame_shape[0] > UINT32_MAX) /* each below 2^31 */
    return flow_corrupt(error, file_name, "frames, at most", UINT32_MAX, file->chunks * h->frame_shape[0]);
  if (!flow_path_is_safe(h->library.path) || h->library.variant_floats)
    return flow_fail(error, FLOW_FOR(CORRUPT, OUTSIDE),
                     "decoder.bin: library: expected a relative path inside the bundle and no variant; do not use it");
  return TVM_FLOW_OK;
}

tvm_flow_status flow_decoder_file_read(const flow_host *host, const char *bundle_dir, flow_decoder_file *out,
                                       tvm_flow_error *error) {
  flow_copy file; /* what is accepted is what is read, whoever writes to the file */
  *out = (flow_decoder_file){0};
  tvm_flow_status s = flow_copy_file(host, bundle_dir, file_name, MOST, &file, error);
  if (!s) s = flow_accept(host, bundle_dir, file_name, &file.map, error);
  if (!s) s = check_identity(&file.map, error);
  if (!s) {
    memcpy(&out->header, file.map.data, sizeof out->header);
    s = check_sizes(out, error);
  }
  flow_drop_copy(&file);
  return s;
}
