#include "decoder_file.h"

#include <string.h>

#include "limits.h"

static tvm_flow_status corrupt(tvm_flow_error *error, const char *what, uint64_t expected, uint64_t got) {
  return flow_fail(error, TVM_FLOW_CORRUPT, "decoder.bin: %s: expected %llu, got %llu; pack the bundle again", what,
                   (unsigned long long)expected, (unsigned long long)got);
}

static tvm_flow_status check_identity(const flow_map *map, tvm_flow_error *error) {
  const flow_decoder_header *h = (const void *)map->data;
  uint8_t digest[FLOW_SHA256_BYTES];
  const uint64_t bytes = sizeof *h + sizeof digest;
  if (map->bytes != bytes) return corrupt(error, "file size", bytes, map->bytes);
  if (memcmp(h->magic, FLOW_DECODER_MAGIC, sizeof h->magic) != 0)
    return flow_fail(error, TVM_FLOW_CORRUPT, "decoder.bin: expected the magic %s, got other bytes; check the path",
                     FLOW_DECODER_MAGIC);
  if (h->schema != FLOW_DECODER_SCHEMA)
    return flow_fail(error, TVM_FLOW_WRONG_SCHEMA,
                     "decoder.bin: expected schema %u, got %u; pack with the tvm-flow that this runtime came from",
                     FLOW_DECODER_SCHEMA, h->schema);
  if (h->header_bytes != sizeof *h) return corrupt(error, "header_bytes", sizeof *h, h->header_bytes);
  flow_sha256(map->data, sizeof *h, digest);
  if (memcmp(digest, map->data + sizeof *h, sizeof digest) != 0)
    return flow_fail(error, TVM_FLOW_CORRUPT,
                     "decoder.bin: its content does not have the sha256 at its end; copy the bundle again");
  return TVM_FLOW_OK;
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
    return flow_fail(error, TVM_FLOW_CORRUPT,
                     "decoder.bin: expected sizes of at most 2^30 values, chunks that divide %u latent frames and 3 "
                     "colours, got chunks of %u and %u colours; pack the bundle again",
                     h->latent_shape[1], h->chunk, h->frame_shape[3]);
  file->chunks = h->latent_shape[1] / h->chunk;
  file->latent_floats = latents / file->chunks;
  file->frame_values = values;
  if (!flow_path_is_safe(h->library.path) || h->library.variant_floats)
    return flow_fail(error, TVM_FLOW_CORRUPT,
                     "decoder.bin: library: expected a relative path inside the bundle and no variant; do not use it");
  return TVM_FLOW_OK;
}

tvm_flow_status flow_decoder_file_read(const char *bundle_dir, flow_decoder_file *out, tvm_flow_error *error) {
  flow_map map = {0};
  *out = (flow_decoder_file){0};
  tvm_flow_status s = flow_map_file(bundle_dir, "decoder.bin", &map, error);
  if (!s) s = check_identity(&map, error);
  if (!s) {
    memcpy(&out->header, map.data, sizeof out->header);
    s = check_sizes(out, error);
  }
  flow_unmap(&map);
  return s;
}
