/* decoder.bin: what the runtime reads of a decoder besides its library and decoder_weights.bin.
 *
 * Little endian: the header, and the sha256 of its bytes. */
#ifndef TVM_FLOW_DECODER_FILE_H
#define TVM_FLOW_DECODER_FILE_H

#include "index.h"

#define FLOW_DECODER_MAGIC "TVMFDEC"
#define FLOW_DECODER_SCHEMA 2u
#define FLOW_DECODER_OLDEST 1u /* had zeros where weights_first and library_bytes are */

typedef struct {
  char magic[8];
  uint32_t schema;
  uint32_t header_bytes;
  uint32_t latent_shape[4]; /* C, T, h, w of the video */
  uint32_t chunk;           /* latent frames decoded at a time */
  uint32_t frame_shape[4];  /* F, H, W, 3 of a chunk */
  uint32_t weights_first; /* as in steps.bin */
  uint64_t weights_bytes;
  uint8_t weights_sha256[FLOW_SHA256_BYTES];
  uint8_t golden_sha256[FLOW_SHA256_BYTES]; /* of the float32 frames that golden.bin's latents give */
  flow_index_group library;                 /* variant_floats is 0 */
} flow_decoder_header;

_Static_assert(sizeof(flow_decoder_header) == 320, "layout of decoder.bin");

typedef struct {
  flow_decoder_header header;
  uint64_t chunks;
  uint64_t latent_floats; /* of a chunk */
  uint64_t frame_values;  /* of a chunk */
} flow_decoder_file;

/* Reads and checks decoder.bin; the library's path is relative and stays inside the bundle once this succeeds. */
tvm_flow_status flow_decoder_file_read(const flow_host *host, const char *bundle_dir, flow_decoder_file *out,
                                       tvm_flow_error *error);

#endif
