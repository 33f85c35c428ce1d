#include "index.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "accept.h"
#include "limits.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "steps.bin is read in place");

static const char file_name[] = "steps.bin";

static tvm_flow_status outside(tvm_flow_error *error, unsigned why, const char *what, const uint64_t range[2],
                               uint64_t got) {
  return flow_fail(error, why, "steps.bin: %s: expected %llu to %llu, got %llu; pack the bundle again", what,
                   (unsigned long long)range[0], (unsigned long long)range[1], (unsigned long long)got);
}

static tvm_flow_status in_range(tvm_flow_error *error, const char *what, uint64_t low, uint64_t high, uint64_t got) {
  if (got >= low && got <= high) return TVM_FLOW_OK;
  return outside(error, FLOW_FOR(CORRUPT, WRONG_STEP_TABLE), what, (uint64_t[]){low, high}, got);
}

/* A size of at least 1 that no bundle has above `most`. */
static tvm_flow_status in_limit(tvm_flow_error *error, const char *what, uint64_t most, uint64_t got) {
  if (got <= most) return in_range(error, what, 1, most, got);
  return outside(error, FLOW_FOR(CORRUPT, SIZE_OVERFLOW), what, (uint64_t[]){1, most}, got);
}

static tvm_flow_status check_identity(const flow_map *map, tvm_flow_error *error) {
  static const flow_head head = {FLOW_INDEX_MAGIC, FLOW_INDEX_SCHEMA, FLOW_INDEX_OLDEST,
                                 sizeof(flow_index_header)};
  flow_index_header *header = (void *)(uintptr_t)map->data; /* a copy, of at least a byte */
  const uint64_t least = sizeof *header + FLOW_SHA256_BYTES;
  tvm_flow_status s = flow_check_whole(file_name, map, least, &header->file_bytes, error);
  if (!s) s = flow_check_head(file_name, map, &head, error);
  if (s) return s;
  return header->file_bytes == map->bytes
             ? TVM_FLOW_OK
             : flow_corrupt(error, file_name, "file size", header->file_bytes, map->bytes);
}

static unsigned wrong_or_not_finite(double value) {
  return isfinite(value) ? FLOW_FOR(CORRUPT, WRONG_STEP_TABLE) : FLOW_FOR(CORRUPT, NOT_FINITE);
}

static tvm_flow_status check_counts(flow_index *index, tvm_flow_error *error) {
  const flow_index_header *h = index->header;
  tvm_flow_status s;
  if ((s = in_limit(error, "steps", FLOW_MAX_STEPS, h->steps))) return s;
  if ((s = in_range(error, "branches", 1, 2, h->branches))) return s;
  if (h->golden_steps != FLOW_NOT_COMPUTED && (s = in_range(error, "golden steps", 0, h->steps, h->golden_steps)))
    return s;
  if ((s = in_range(error, "groups", 1, (uint64_t)h->steps * h->branches, h->groups))) return s;
  if ((s = in_range(error, "latent dimensions", 1, TVM_FLOW_MAX_LATENT_DIMS, h->latent_ndim))) return s;
  if ((s = in_range(error, "guided channels", 0, h->latent_shape[0], h->guided_channels))) return s;
  if ((s = in_limit(error, "text tokens", FLOW_MAX_ELEMENTS, h->text_tokens))) return s;
  if ((s = in_limit(error, "text channels", FLOW_MAX_ELEMENTS, h->text_channels))) return s;
  index->text_floats = (uint64_t)h->text_tokens * h->text_channels;
  if ((s = in_limit(error, "text values", FLOW_MAX_ELEMENTS, index->text_floats))) return s;
  index->latent_floats = 1;
  for (uint32_t i = 0; i < TVM_FLOW_MAX_LATENT_DIMS; i++) {
    const uint32_t size = h->latent_shape[i];
    s = i < h->latent_ndim ? in_limit(error, "latent size", FLOW_MAX_ELEMENTS, size)
                           : in_range(error, "latent size", 1, 1, size);
    if (s) return s;
    index->latent_floats *= size;
    if ((s = in_limit(error, "latent values", FLOW_MAX_ELEMENTS, index->latent_floats))) return s;
  }
  uint32_t channels = h->latent_shape[0]; /* at most 2^28 by now */
  if (h->output_channels != channels && h->output_channels != 2 * channels)
    return flow_fail(error, FLOW_FOR(CORRUPT, WRONG_STEP_TABLE),
                     "steps.bin: output channels: expected %u or %u, got %u; pack the bundle again", channels,
                     2 * channels, h->output_channels);
  index->output_floats = index->latent_floats / channels * h->output_channels;
  if (!(h->cfg_scale >= 0 && h->cfg_scale <= FLOW_MAX_CFG_SCALE)) /* NaN is not either */
    return flow_fail(error, wrong_or_not_finite(h->cfg_scale),
                     "steps.bin: cfg scale: expected 0 to %d, got %g; pack the bundle again", FLOW_MAX_CFG_SCALE,
                     (double)h->cfg_scale);
  return TVM_FLOW_OK;
}

/* Takes `count` items of `bytes` each from *at; the cursor stops growing at the file's end, so sums cannot wrap. */
static const void *take(const flow_map *map, uint64_t *at, uint64_t count, uint64_t bytes) {
  uint64_t need, end = map->bytes - FLOW_SHA256_BYTES;
  const void *section = map->data + *at;
  if (__builtin_mul_overflow(count, bytes, &need) || need > end - *at) {
    *at = end;
    return NULL;
  }
  need = (need + FLOW_INDEX_ALIGN - 1) / FLOW_INDEX_ALIGN * FLOW_INDEX_ALIGN;
  *at = need > end - *at ? end : *at + need;
  return section;
}

static tvm_flow_status locate(flow_index *index, tvm_flow_error *error) {
  const flow_index_header *h = index->header;
  const flow_map *map = &index->file.map;
  uint64_t at = sizeof *h;
  const char *sampler = take(map, &at, h->sampler_bytes, 1);
  index->groups = take(map, &at, h->groups, sizeof *index->groups);
  index->t = take(map, &at, h->steps, sizeof(float));
  index->updates = take(map, &at, h->steps, sizeof *index->updates);
  index->records = take(map, &at, (uint64_t)h->steps * h->step_floats, sizeof(float));
  index->variants = take(map, &at, (uint64_t)h->steps * h->branches, sizeof *index->variants);
  index->values = take(map, &at, h->variant_values, sizeof(float));
  int complete = sampler && index->groups && index->t && index->updates && index->records && index->variants;
  if (!complete || !index->values || at + FLOW_SHA256_BYTES != map->bytes)
    return flow_fail(error, FLOW_FOR(CORRUPT, WRONG_STEP_TABLE),
                     "steps.bin: its counts do not add up to its %llu bytes; pack the bundle again",
                     (unsigned long long)map->bytes);
  index->sampler = flow_alloc(index->host, (uint64_t)h->sampler_bytes + 1);
  if (!index->sampler) return flow_no_memory(error, "the sampler's text");
  memcpy(index->sampler, sampler, h->sampler_bytes);
  return TVM_FLOW_OK;
}

int flow_path_is_safe(const char *path) {
  if (!memchr(path, 0, FLOW_PATH_BYTES) || path[0] == 0) return 0;
  for (const char *part = path;;) {
    size_t length = strcspn(part, "/");
    int dots = (length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.');
    if (length == 0 || dots || memchr(part, '\\', length)) return 0;
    if (part[length] == 0) return 1;
    part += length + 1;
  }
}

/* Whether a group before `g` has its library's path, as file systems that know no case see it. Compilers number groups,
 * so doubles are looked for near it: of 100 000 groups all pairs would take minutes. */
static int is_double(const flow_index *index, uint32_t g) {
  enum { NEAR = 256 };
  for (uint32_t other = g > NEAR ? g - NEAR : 0; other < g; other++)
    if (strcasecmp(index->groups[other].path, index->groups[g].path) == 0) return 1;
  return 0;
}

static tvm_flow_status check_paths(const flow_index *index, tvm_flow_error *error) {
  for (uint32_t g = 0; g < index->header->groups; g++) {
    if (!flow_path_is_safe(index->groups[g].path))
      return flow_fail(error, FLOW_FOR(CORRUPT, OUTSIDE),
                       "steps.bin: library of group %u: expected a relative path inside the bundle; do not use it", g);
    if (is_double(index, g))
      return flow_fail(error, FLOW_FOR(CORRUPT, DUPLICATE_NAME),
                       "steps.bin: library of group %u: expected a path of its own; pack the bundle again", g);
  }
  return TVM_FLOW_OK;
}

static tvm_flow_status check_variants(const flow_index *index, tvm_flow_error *error) {
  const flow_index_header *h = index->header;
  for (uint32_t i = 0; i < h->steps * h->branches; i++) {
    const flow_index_variant *variant = &index->variants[i];
    tvm_flow_status s = in_range(error, "group of a variant", 0, h->groups - 1, variant->group);
    if (s) return s;
    uint64_t floats = index->groups[variant->group].variant_floats;
    if (floats > h->variant_values)
      return flow_corrupt(error, file_name, "values, at least", floats, h->variant_values);
    if ((s = in_range(error, "first value of a variant", 0, h->variant_values - floats, variant->first))) return s;
  }
  return TVM_FLOW_OK;
}

static tvm_flow_status check_finite(const char *what, const float *values, uint64_t count, tvm_flow_error *error) {
  for (uint64_t i = 0; i < count; i++)
    if (!isfinite(values[i]))
      return flow_fail(error, FLOW_FOR(CORRUPT, NOT_FINITE),
                       "steps.bin: %s %llu: expected a finite number, got %g; quantize again", what,
                       (unsigned long long)i, (double)values[i]);
  return TVM_FLOW_OK;
}

static tvm_flow_status check_updates(flow_index *index, tvm_flow_error *error) {
  for (uint32_t i = 0; i < index->header->steps; i++) {
    const tvm_flow_update *u = &index->updates[i];
    const double sums = fabs(u->of_z) + fabs(u->of_prediction) + fabs(u->log_sigma) + fabs(u->log_sigma_of_variance);
    if (!isfinite(sums + u->sigma) || u->sigma < 0)
      return flow_fail(error, wrong_or_not_finite(sums + u->sigma),
                       "steps.bin: update %u: expected finite numbers and no negative sigma; quantize again", i);
    index->draws_noise |= u->sigma > 0;
  }
  return TVM_FLOW_OK;
}

static tvm_flow_status check_numbers(flow_index *index, tvm_flow_error *error) {
  const flow_index_header *h = index->header;
  tvm_flow_status s;
  if ((s = check_finite("timestep", index->t, h->steps, error))) return s;
  if ((s = check_updates(index, error))) return s;
  if ((s = check_finite("step record value", index->records, (uint64_t)h->steps * h->step_floats, error))) return s;
  return check_finite("variant value", index->values, h->variant_values, error);
}

tvm_flow_status flow_index_open(const char *bundle_dir, const flow_host *host, flow_index *out,
                                tvm_flow_error *error) {
  *out = (flow_index){.host = host};
  tvm_flow_status s = flow_copy_file(host, bundle_dir, file_name, FLOW_MAX_INDEX_BYTES, &out->file, error);
  if (!s) s = flow_accept(host, bundle_dir, file_name, &out->file.map, error);
  if (!s) s = check_identity(&out->file.map, error);
  out->header = (const void *)out->file.map.data;
  if (!s) s = check_counts(out, error);
  if (!s) s = locate(out, error);
  if (!s) s = check_paths(out, error);
  if (!s) s = check_variants(out, error);
  if (!s) s = check_numbers(out, error);
  if (s) flow_index_close(out);
  return s;
}

void flow_index_close(flow_index *index) {
  if (index->sampler) flow_free(index->host, index->sampler);
  flow_drop_copy(&index->file);
  *index = (flow_index){0};
}
