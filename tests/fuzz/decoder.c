/* decoder.bin. Of what is accepted the sizes must multiply without a surprise. */
#include "decoder_file.h"

#include "given.h"

int target_attempt(const uint8_t *data, size_t bytes) {
  given file = {data, bytes};
  const flow_host host = host_of(&file);
  flow_decoder_file read;
  tvm_flow_error error;
  const tvm_flow_status s = flow_decoder_file_read(&host, "b", &read, &error);
  if (s) return (int)s;
  const flow_decoder_header *h = &read.header;
  const uint32_t frames = (uint32_t)read.chunks * h->frame_shape[0];
  uint64_t values;
  if (!frames || __builtin_mul_overflow(read.chunks * sizeof(float), read.frame_values, &values)) abort();
  if (read.chunks * read.frame_values != (uint64_t)frames * h->frame_shape[1] * h->frame_shape[2] * 3) abort();
  if (strlen(h->library.path) >= FLOW_PATH_BYTES || h->library.path[0] == '/') abort();
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) { return with_digest(data, bytes); }
