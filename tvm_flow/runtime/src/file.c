#include "file.h"

#include <stdio.h>
#include <string.h>

#include "platform.h"

tvm_flow_status flow_join(const char *directory, const char *name, char path[FLOW_PLACE_BYTES], tvm_flow_error *error) {
  if (snprintf(path, FLOW_PLACE_BYTES, "%s/%s", directory, name) < FLOW_PLACE_BYTES) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_FILE_ERROR, "%s: expected a path below %d bytes; move the bundle", name,
                   FLOW_PLACE_BYTES);
}

typedef struct {
  char path[FLOW_PLACE_BYTES];
  tvm_flow_file given;     /* data or reader, where the host has one */
  flow_system_file system; /* else */
  int opened;              /* by us */
} source;

static tvm_flow_status unreadable(const source *file, const char *wrong, tvm_flow_error *error) {
  return flow_fail(error, TVM_FLOW_FILE_ERROR | (unsigned)file->system.cause << 8,
                   "%s: expected a readable file, got: %s; check the bundle's path", file->path, wrong);
}

static const char *find(const flow_host *host, const char *name, source *out) {
  if (!host->find) {
    const char *wrong = flow_system_open(out->path, host->follow, &out->system);
    out->opened = !wrong;
    return wrong;
  }
  out->system = (flow_system_file){.cause = TVM_FLOW_CAUSE_ABSENT};
  if (host->find(host->user, name, &out->given)) return "none from options.find";
  const tvm_flow_file *given = &out->given;
  out->system = (flow_system_file){
      .descriptor = given->descriptor, .runs = 1, .offset = given->offset, .bytes = given->bytes};
  if (given->bytes > SIZE_MAX / 2) return "a size that no memory holds";
  return given->data || given->read ? NULL : flow_system_adopt(&out->system);
}

static tvm_flow_status open_source(const flow_host *host, const char *directory, const char *name, uint64_t most,
                                   source *out, tvm_flow_error *error) {
  out->given = (tvm_flow_file){0};
  out->opened = 0;
  tvm_flow_status s = flow_join(directory, name, out->path, error);
  if (s) return s;
  const char *wrong = find(host, name, out);
  if (wrong) return unreadable(out, wrong, error);
  if (out->system.bytes <= most) return TVM_FLOW_OK;
  if (out->opened) flow_system_close(&out->system);
  return flow_fail(error, FLOW_FOR(CORRUPT, CHANGED),
                   "%s: expected at most %llu bytes, got %llu; copy the bundle again", out->path,
                   (unsigned long long)most, (unsigned long long)out->system.bytes);
}

static const char *read_source(const source *file, uint8_t *out) {
  const tvm_flow_file *given = &file->given;
  const uint64_t bytes = file->system.bytes;
  if (given->data) return memcpy(out, given->data, (size_t)bytes), NULL;
  if (given->read) return given->read(given->read_user, 0, out, bytes) ? "a reader that cannot" : NULL;
  return flow_system_read(&file->system, out);
}

static tvm_flow_status copy_source(const flow_host *host, const source *file, flow_map *out, tvm_flow_error *error) {
  const uint64_t bytes = file->system.bytes;
  uint8_t *data = flow_alloc(host, bytes + 1); /* also an empty file has a place */
  if (!data) return flow_no_memory(error, file->path);
  *out = (flow_map){.data = data, .bytes = bytes, .owner = FLOW_COPIED, .host = host};
  const char *wrong = read_source(file, data);
  if (!wrong) return TVM_FLOW_OK;
  flow_unmap(out);
  return unreadable(file, wrong, error);
}

static int aligned(const void *data) { return (uintptr_t)data % FLOW_MAP_ALIGN == 0; }

static tvm_flow_status map_source(const flow_host *host, const source *file, flow_map *out, tvm_flow_error *error) {
  const tvm_flow_file *given = &file->given;
  *out = (flow_map){.data = given->data, .bytes = file->system.bytes};
  if (given->data && aligned(given->data)) return TVM_FLOW_OK;
  if (given->data || given->read || file->system.offset % FLOW_MAP_ALIGN) return copy_source(host, file, out, error);
  const char *wrong = flow_system_map(&file->system, &out->data);
  if (wrong) return unreadable(file, wrong, error);
  out->owner = FLOW_MAPPED;
  return TVM_FLOW_OK;
}

tvm_flow_status flow_map_file(const flow_host *host, const char *directory, const char *name, uint64_t most,
                              flow_map *out, tvm_flow_error *error) {
  source file;
  *out = (flow_map){0};
  tvm_flow_status s = open_source(host, directory, name, most, &file, error);
  if (s) return s;
  s = map_source(host, &file, out, error);
  if (file.opened) flow_system_close(&file.system);
  if (s) *out = (flow_map){0};
  return s;
}

void flow_unmap(flow_map *map) {
  if (map->data && map->owner == FLOW_MAPPED) flow_system_unmap(map->data, map->bytes);
  if (map->owner == FLOW_COPIED) flow_free(map->host, (void *)(uintptr_t)map->data);
  *map = (flow_map){0};
}

tvm_flow_status flow_copy_file(const flow_host *host, const char *directory, const char *name, uint64_t most,
                               flow_copy *out, tvm_flow_error *error) {
  source file;
  *out = (flow_copy){0};
  tvm_flow_status s = open_source(host, directory, name, most, &file, error);
  if (s) return s;
  out->runs = file.system.runs;
  s = copy_source(host, &file, &out->map, error);
  if (file.opened) flow_system_close(&file.system);
  return s;
}

void flow_drop_copy(flow_copy *copy) { flow_unmap(&copy->map); }

tvm_flow_status flow_check_hash(const char *name, const flow_map *map, const uint8_t expected[FLOW_SHA256_BYTES],
                                tvm_flow_error *error) {
  uint8_t digest[FLOW_SHA256_BYTES];
  flow_sha256(map->data, (size_t)map->bytes, digest);
  if (memcmp(digest, expected, sizeof digest) == 0) return TVM_FLOW_OK;
  return flow_fail(error, FLOW_FOR(CORRUPT, CHANGED),
                   "%s: expected sha256 %02x%02x%02x%02x..., got %02x%02x%02x%02x...; copy the bundle again", name,
                   expected[0], expected[1], expected[2], expected[3], digest[0], digest[1], digest[2], digest[3]);
}

/* Whether the digest holds with the file's size in place of the one that it states: then that number was changed, and
 * nothing cut off. */
static int holds_with_its_size(const flow_map *map, uint64_t *stated) {
  const flow_map body = {.data = map->data, .bytes = map->bytes - FLOW_SHA256_BYTES};
  const uint64_t said = *stated;
  *stated = map->bytes;
  const int holds = flow_check_hash("", &body, body.data + body.bytes, NULL) == TVM_FLOW_OK;
  *stated = said;
  return holds;
}

tvm_flow_status flow_check_whole(const char *name, const flow_map *map, uint64_t least, uint64_t *stated,
                                 tvm_flow_error *error) {
  if (map->bytes < least) return flow_wrong_bytes(error, name, least, map->bytes);
  const flow_map body = {.data = map->data, .bytes = map->bytes - FLOW_SHA256_BYTES};
  const tvm_flow_status s = flow_check_hash(name, &body, body.data + body.bytes, error);
  if (s && stated && *stated > map->bytes && !holds_with_its_size(map, stated))
    return flow_wrong_bytes(error, name, *stated, map->bytes);
  return s;
}

tvm_flow_status flow_check_head(const char *name, const flow_map *map, const flow_head *expected,
                                tvm_flow_error *error) {
  const uint8_t *data = map->data;
  uint32_t schema, header_bytes;
  if (memcmp(data, expected->magic, sizeof expected->magic) != 0)
    return flow_fail(error, FLOW_FOR(CORRUPT, WRONG_STEP_TABLE),
                     "%s: expected the magic %s, got other bytes; check the path", name, expected->magic);
  memcpy(&schema, data + sizeof expected->magic, sizeof schema);
  memcpy(&header_bytes, data + sizeof expected->magic + sizeof schema, sizeof header_bytes);
  if (schema < expected->oldest || schema > expected->schema)
    return flow_fail(error, TVM_FLOW_WRONG_SCHEMA,
                     "%s: expected schema %u or %u, got %u; compile the bundle again, or take a newer runtime", name,
                     expected->oldest, expected->schema, schema);
  if (header_bytes != expected->header_bytes)
    return flow_corrupt(error, name, "header_bytes", expected->header_bytes, header_bytes);
  return TVM_FLOW_OK;
}
