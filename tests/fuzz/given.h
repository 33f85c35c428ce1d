/* A bundle of one file, which lies in memory: for targets that read files by the runtime's own means. */
#ifndef TVM_FLOW_FUZZ_GIVEN_H
#define TVM_FLOW_FUZZ_GIVEN_H

#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "host.h"
#include "sha256.h"

typedef struct {
  const uint8_t *data; /* as long as it says, so that one byte more is seen */
  size_t bytes;
} given;

static inline int find_given(void *user, const char *name, tvm_flow_file *out) {
  const given *file = user;
  (void)name;
  *out = (tvm_flow_file){.bytes = file->bytes, .data = file->bytes ? (const void *)file->data : ""};
  return 0;
}

static inline flow_host host_of(given *file) {
  const tvm_flow_options options = {.struct_bytes = sizeof options, .find = find_given, .user = file};
  return flow_host_of(&options);
}

/* Both runs of a target whose file ends in the sha256 of all before it. */
static inline int with_digest(const uint8_t *data, size_t bytes) {
  int status = target_attempt(data, bytes);
  uint8_t *fixed = malloc(bytes + 1);
  memcpy(fixed, data, bytes);
  if (status && bytes >= FLOW_SHA256_BYTES) {
    flow_sha256(fixed, bytes - FLOW_SHA256_BYTES, fixed + bytes - FLOW_SHA256_BYTES);
    target_attempt(fixed, bytes);
  }
  free(fixed);
  return 0;
}

#endif
