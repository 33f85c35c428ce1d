#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

char *flow_join(const char *directory, const char *name) {
  size_t bytes = strlen(directory) + strlen(name) + 2;
  char *path = malloc(bytes);
  if (path) snprintf(path, bytes, "%s/%s", directory, name);
  return path;
}

static tvm_flow_status map_descriptor(int fd, const char *path, flow_map *out, tvm_flow_error *error) {
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0)
    return flow_fail(error, TVM_FLOW_FILE_ERROR, "%s: expected a readable file, got: %s; check the bundle's path", path,
                     strerror(errno));
  if (!S_ISREG(status.st_mode))
    return flow_fail(error, TVM_FLOW_FILE_ERROR, "%s: expected a regular file; copy the bundle again", path);
  *out = (flow_map){.data = NULL, .bytes = (uint64_t)status.st_size};
  if (out->bytes == 0) return TVM_FLOW_OK;
  if (out->bytes > SIZE_MAX)
    return flow_fail(error, TVM_FLOW_NO_MEMORY, "%s: %llu bytes do not fit this address space; use a smaller model",
                     path, (unsigned long long)out->bytes);
  void *data = mmap(NULL, (size_t)out->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED)
    return flow_fail(error, TVM_FLOW_FILE_ERROR, "%s: could not map %llu bytes: %s; free memory", path,
                     (unsigned long long)out->bytes, strerror(errno));
  out->data = data;
  return TVM_FLOW_OK;
}

tvm_flow_status flow_map_file(const char *directory, const char *name, flow_map *out, tvm_flow_error *error) {
  char *path = flow_join(directory, name);
  if (!path) return flow_fail(error, TVM_FLOW_NO_MEMORY, "%s: no memory for its path; free memory", name);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  tvm_flow_status status = map_descriptor(fd, path, out, error);
  if (fd >= 0) close(fd);
  free(path);
  return status;
}

void flow_unmap(flow_map *map) {
  if (map->data) munmap((void *)(uintptr_t)map->data, (size_t)map->bytes);
  *map = (flow_map){0};
}

tvm_flow_status flow_check_hash(const char *name, const flow_map *map, const uint8_t expected[FLOW_SHA256_BYTES],
                                tvm_flow_error *error) {
  uint8_t digest[FLOW_SHA256_BYTES];
  flow_sha256(map->data, (size_t)map->bytes, digest);
  if (memcmp(digest, expected, sizeof digest) == 0) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_CORRUPT,
                   "%s: expected sha256 %02x%02x%02x%02x..., got %02x%02x%02x%02x...; copy the bundle again", name,
                   expected[0], expected[1], expected[2], expected[3], digest[0], digest[1], digest[2], digest[3]);
}
