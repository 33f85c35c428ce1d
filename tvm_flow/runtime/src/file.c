#include "file.h"

#include <stdio.h>
#include <string.h>

#include "platform.h"

tvm_flow_status flow_join(const char *directory, const char *name, char path[FLOW_PLACE_BYTES], tvm_flow_error *error) {
  if (snprintf(path, FLOW_PLACE_BYTES, "%s/%s", directory, name) < FLOW_PLACE_BYTES) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_FILE_ERROR, "%s: expected a path below %d bytes; move the bundle", name,
                   FLOW_PLACE_BYTES);
}

static tvm_flow_status unreadable(const char *path, const char *wrong, tvm_flow_error *error) {
  return flow_fail(error, TVM_FLOW_FILE_ERROR, "%s: expected a readable file, got: %s; check the bundle's path", path,
                   wrong);
}

static tvm_flow_status open_file(const char *directory, const char *name, char path[FLOW_PLACE_BYTES],
                                 flow_system_file *out, tvm_flow_error *error) {
  tvm_flow_status s = flow_join(directory, name, path, error);
  if (s) return s;
  const char *wrong = flow_system_open(path, out);
  return wrong ? unreadable(path, wrong, error) : TVM_FLOW_OK;
}

tvm_flow_status flow_map_file(const char *directory, const char *name, flow_map *out, tvm_flow_error *error) {
  char path[FLOW_PLACE_BYTES];
  flow_system_file file;
  *out = (flow_map){0};
  tvm_flow_status s = open_file(directory, name, path, &file, error);
  if (s) return s;
  const char *wrong = flow_system_map(&file, &out->data);
  flow_system_close(&file);
  if (wrong) return unreadable(path, wrong, error);
  out->bytes = file.bytes;
  return TVM_FLOW_OK;
}

void flow_unmap(flow_map *map) {
  if (map->data) flow_system_unmap(map->data, map->bytes);
  *map = (flow_map){0};
}

static tvm_flow_status copy_file(const char *path, const flow_system_file *file, uint64_t most, flow_copy *out,
                                 tvm_flow_error *error) {
  if (file->bytes > most)
    return flow_fail(error, TVM_FLOW_CORRUPT, "%s: expected at most %llu bytes, got %llu; copy the bundle again", path,
                     (unsigned long long)most, (unsigned long long)file->bytes);
  uint8_t *data = flow_alloc(out->host, file->bytes + 1); /* also an empty file has a place */
  if (!data) return flow_no_memory(error, path);
  out->map = (flow_map){.data = data, .bytes = file->bytes};
  out->runs = file->runs;
  const char *wrong = flow_system_read(file, data);
  return wrong ? unreadable(path, wrong, error) : TVM_FLOW_OK;
}

tvm_flow_status flow_copy_file(const flow_host *host, const char *directory, const char *name, uint64_t most,
                               flow_copy *out, tvm_flow_error *error) {
  char path[FLOW_PLACE_BYTES];
  flow_system_file file;
  *out = (flow_copy){.host = host};
  tvm_flow_status s = open_file(directory, name, path, &file, error);
  if (s) return s;
  s = copy_file(path, &file, most, out, error);
  flow_system_close(&file);
  if (s) flow_drop_copy(out);
  return s;
}

void flow_drop_copy(flow_copy *copy) {
  if (copy->map.data) flow_free(copy->host, (void *)(uintptr_t)copy->map.data);
  *copy = (flow_copy){0};
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

tvm_flow_status flow_check_head(const char *name, const flow_map *map, const flow_head *expected,
                                tvm_flow_error *error) {
  const flow_head *got = (const void *)map->data;
  const uint64_t least = (uint64_t)expected->header_bytes + FLOW_SHA256_BYTES;
  if (map->bytes < least) return flow_corrupt(error, name, "file size, at least", least, map->bytes);
  if (memcmp(got->magic, expected->magic, sizeof got->magic) != 0)
    return flow_fail(error, TVM_FLOW_CORRUPT, "%s: expected the magic %s, got other bytes; check the path", name,
                     expected->magic);
  if (got->schema != expected->schema)
    return flow_fail(error, TVM_FLOW_WRONG_SCHEMA,
                     "%s: expected schema %u, got %u; pack with the tvm-flow that this runtime came from", name,
                     expected->schema, got->schema);
  if (got->header_bytes != expected->header_bytes)
    return flow_corrupt(error, name, "header_bytes", expected->header_bytes, got->header_bytes);
  return TVM_FLOW_OK;
}

tvm_flow_status flow_check_tail(const char *name, const flow_map *map, tvm_flow_error *error) {
  const flow_map body = {.data = map->data, .bytes = map->bytes - FLOW_SHA256_BYTES};
  return flow_check_hash(name, &body, body.data + body.bytes, error);
}
