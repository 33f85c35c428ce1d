/* Files of a bundle: joined paths, read-only maps, hashes. */
#ifndef TVM_FLOW_FILE_H
#define TVM_FLOW_FILE_H

#include "error.h"
#include "sha256.h"

/* A read-only memory map; data is NULL when the file is empty. */
typedef struct {
  const uint8_t *data;
  uint64_t bytes;
} flow_map;

enum { FLOW_PLACE_BYTES = 4096 };

/* "directory/name", which the system takes up to this length. */
tvm_flow_status flow_join(const char *directory, const char *name, char path[FLOW_PLACE_BYTES], tvm_flow_error *error);

/* Maps directory/name. Only regular files are accepted: a fifo would block. */
tvm_flow_status flow_map_file(const char *directory, const char *name, flow_map *out, tvm_flow_error *error);

void flow_unmap(flow_map *map);

/* Compares sha256(map) with the one that steps.bin holds for `name`. */
tvm_flow_status flow_check_hash(const char *name, const flow_map *map, const uint8_t expected[FLOW_SHA256_BYTES],
                                tvm_flow_error *error);

#endif
