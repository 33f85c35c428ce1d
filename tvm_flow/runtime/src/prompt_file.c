/* Captions in memory of their own: tokens, then the mask, one allocation that `tokens` points to. */
#include <math.h>
#include <string.h>

#include "../include/tvm_flow_prompt.h"
#include "flow.h"
#include "platform.h"

#define PROMPT_MAGIC "TVMFPRM"
#define PROMPT_SCHEMA 1u
#define WRITE_IT "use tvm-flow embed --for-bundle"

typedef struct {
  char magic[8];
  uint32_t schema;
  uint32_t header_bytes;
  uint32_t text_tokens;
  uint32_t text_channels;
} prompt_header;

_Static_assert(sizeof(prompt_header) == 24, "layout of prompt.bin");

/* Copies of both arrays; the sizes are below 2^28 each, so the sum of their bytes fits 32 bits. */
static tvm_flow_status keep(const flow_index *index, const float *tokens, const float *mask, tvm_flow_prompt *out,
                            tvm_flow_error *error) {
  const size_t floats = (size_t)index->text_floats, masks = index->header->text_tokens;
  float *memory = flow_system_allocate(NULL, (floats + masks) * sizeof *memory, 64);
  if (!memory) return flow_no_memory(error, "a prompt");
  memcpy(memory, tokens, floats * sizeof *memory);
  memcpy(memory + floats, mask, masks * sizeof *memory);
  *out = (tvm_flow_prompt){.tokens = memory, .mask = memory + floats};
  return TVM_FLOW_OK;
}

static tvm_flow_status check_header(const char *path, const flow_map *map, const flow_index_header *bundle,
                                    tvm_flow_error *error) {
  const prompt_header *h = (const void *)map->data;
  if (map->bytes < sizeof *h || memcmp(h->magic, PROMPT_MAGIC, sizeof h->magic) != 0 || h->header_bytes != sizeof *h)
    return flow_fail(error, TVM_FLOW_CORRUPT, "%s: expected a prompt, got another file; " WRITE_IT, path);
  const tvm_flow_status s = h->schema != PROMPT_SCHEMA ? TVM_FLOW_WRONG_SCHEMA : TVM_FLOW_INVALID_ARGUMENT;
  if (s == TVM_FLOW_WRONG_SCHEMA || h->text_tokens != bundle->text_tokens || h->text_channels != bundle->text_channels)
    return flow_fail(error, s,
                     "%s: expected schema %u, %u tokens of %u channels, got schema %u, %u tokens of %u; " WRITE_IT,
                     path, PROMPT_SCHEMA, bundle->text_tokens, bundle->text_channels, h->schema, h->text_tokens,
                     h->text_channels);
  return TVM_FLOW_OK;
}

static int numbers_hold(const float *tokens, uint64_t count, const float *mask, uint64_t masks) {
  uint64_t shown = 0;
  for (uint64_t i = 0; i < count; i++)
    if (!isfinite(tokens[i])) return 0;
  for (uint64_t i = 0; i < masks; i++) {
    if (!(mask[i] <= 0)) return 0; /* NaN neither */
    shown += mask[i] >= 0;
  }
  return shown > 0;
}

static tvm_flow_status check(const char *path, const flow_map *map, const flow_index *index, tvm_flow_error *error) {
  tvm_flow_status s = check_header(path, map, index->header, error);
  if (s) return s;
  const uint64_t tokens = index->text_floats, masks = index->header->text_tokens;
  const uint64_t body = sizeof(prompt_header) + (tokens + masks) * sizeof(float);
  s = map->bytes == body + FLOW_SHA256_BYTES ? flow_check_whole(path, map, 0, NULL, error)
                                             : flow_wrong_bytes(error, path, body + FLOW_SHA256_BYTES, map->bytes);
  const float *values = (const void *)(map->data + sizeof(prompt_header));
  if (!s && !numbers_hold(values, tokens, values + tokens, masks))
    s = flow_fail(error, FLOW_FOR(CORRUPT, NOT_FINITE),
                  "%s: expected finite tokens, one kept; " WRITE_IT, path);
  return s;
}

static tvm_flow_status map_path(const char *path, flow_map *map, tvm_flow_error *error) {
  flow_host host = flow_host_of(NULL); /* a prompt is no file of the bundle */
  char folder[4096] = ".";
  const char *slash = strrchr(path, '/');
  host.follow = 1;
  if (!slash) return flow_map_file(&host, folder, path, UINT64_MAX, map, error);
  if ((size_t)(slash - path) >= sizeof folder)
    return flow_fail(error, TVM_FLOW_FILE_ERROR, "%s: expected a shorter path", path);
  memcpy(folder, path, (size_t)(slash - path));
  folder[slash - path] = 0;
  return flow_map_file(&host, folder, slash + 1, UINT64_MAX, map, error);
}

tvm_flow_status tvm_flow_prompt_open(const char *path, const tvm_flow *flow, tvm_flow_prompt *out,
                                     tvm_flow_error *error) {
  if (!path || !flow || !out) return flow_null(error, "tvm_flow_prompt_open");
  *out = (tvm_flow_prompt){0};
  flow_map map = {0};
  tvm_flow_status s = map_path(path, &map, error);
  if (!s) s = check(path, &map, &flow->index, error);
  if (!s) {
    const float *tokens = (const void *)(map.data + sizeof(prompt_header));
    s = keep(&flow->index, tokens, tokens + flow->index.text_floats, out, error);
  }
  flow_unmap(&map);
  return s;
}

tvm_flow_status tvm_flow_null_prompt(const tvm_flow *flow, const tvm_flow_prompt *cond, tvm_flow_prompt *out,
                                     tvm_flow_error *error) {
  if (!flow || !cond || !cond->mask || !out) return flow_null(error, "tvm_flow_null_prompt");
  flow_map map = {0};
  tvm_flow_prompt made = {0};
  tvm_flow_status s = flow_map_golden(flow->function.bundle_dir, &flow->index, &map, error);
  if (!s) {
    const flow_index *index = &flow->index;
    const float *noise = (const void *)map.data;
    const float *tokens = noise + index->latent_floats + index->text_floats + index->header->text_tokens;
    s = keep(index, tokens, cond->mask, &made, error);
  }
  flow_unmap(&map);
  *out = made;
  return s;
}

void tvm_flow_prompt_close(tvm_flow_prompt *prompt) {
  if (!prompt) return;
  flow_system_release(NULL, (void *)(uintptr_t)prompt->tokens);
  *prompt = (tvm_flow_prompt){0};
}
