/* Files of a bundle: joined paths, read-only maps and copies, hashes. */
#ifndef TVM_FLOW_FILE_H
#define TVM_FLOW_FILE_H

#include "error.h"
#include "host.h"
#include "sha256.h"

/* Who gives a map's bytes back. */
typedef enum { FLOW_BORROWED = 0, FLOW_MAPPED, FLOW_COPIED } flow_owner;

/* The bytes of a file, read-only; data is NULL when it is empty. */
typedef struct {
  const uint8_t *data;
  uint64_t bytes;
  flow_owner owner;
  const flow_host *host; /* of a copy */
} flow_map;

enum { FLOW_PLACE_BYTES = 4096, FLOW_MAP_ALIGN = 64 };

/* "directory/name", which the system takes up to this length. */
tvm_flow_status flow_join(const char *directory, const char *name, char path[FLOW_PLACE_BYTES], tvm_flow_error *error);

/* Maps directory/name, or what the host finds by that name; the address is a multiple of 64. Files of more than `most`
 * bytes are refused before memory is taken. Only regular files are accepted: a fifo would block. */
tvm_flow_status flow_map_file(const flow_host *host, const char *directory, const char *name, uint64_t most,
                              flow_map *out, tvm_flow_error *error);

void flow_unmap(flow_map *map);

/* A file in memory of this process: what was checked stays, whoever writes to the file. */
typedef struct {
  flow_map map;
  int runs; /* its file system lets programs run */
} flow_copy;

/* As flow_map_file. */
tvm_flow_status flow_copy_file(const flow_host *host, const char *directory, const char *name, uint64_t most,
                               flow_copy *out, tvm_flow_error *error);

void flow_drop_copy(flow_copy *copy);

/* Compares sha256(map) with the one that steps.bin holds for `name`. */
tvm_flow_status flow_check_hash(const char *name, const flow_map *map, const uint8_t expected[FLOW_SHA256_BYTES],
                                tvm_flow_error *error);

/* For a bundle without the golden output that `file` would hold or name. */
tvm_flow_status flow_unchecked(const char *file, tvm_flow_error *error);

/* How the bundle's own binary files begin, but for `oldest`: schemas from there on are read. They end in the sha256 of
 * all before it. */
typedef struct {
  char magic[8];
  uint32_t schema, oldest;
  uint32_t header_bytes;
} flow_head;

/* At least `least` bytes that end in their sha256. Where such a file says how long it is, `stated` is that number in
 * the map, which is then a copy: it tells a file that was cut from one whose number was changed. */
tvm_flow_status flow_check_whole(const char *name, const flow_map *map, uint64_t least, uint64_t *stated,
                                 tvm_flow_error *error);

/* Of this kind and this runtime's schema: of a file that is whole, so that it was made so. */
tvm_flow_status flow_check_head(const char *name, const flow_map *map, const flow_head *expected,
                                tvm_flow_error *error);

#endif
