#include "vgf.h"

#include <string.h>

enum { HEADER_BYTES = 128, SECTIONS = 16, MAJOR = 0, MINOR = 5 };
enum { GRAPH = 1, SPIRV = 1, INPUT = 0, OUTPUT = 1, CONSTANT = 3 };
/* Fields of the tables, by their numbers in the schema. */
enum { MODULE_ENTRY = 2, MODULE_CODE_TYPE = 3, MODULE_CODE = 4 };
enum { SEGMENT_TYPE = 0, SEGMENT_MODULE = 2, SEGMENT_SETS = 3, SEGMENT_INPUTS = 4, SEGMENT_OUTPUTS = 5,
  SEGMENT_CONSTANTS = 6 };
enum { ENTRY_FORMAT = 1, ENTRY_CATEGORY = 2, ENTRY_DESCRIPTION = 3, SET_INDEX = 1, SLOT_BINDING = 0, SLOT_ENTRY = 1 };

/* A section being read: what reaches beyond it is 0, and `broken` remembers. */
typedef struct {
  const uint8_t *data;
  uint64_t bytes;
  int broken;
} reader;

static reader reading(const vgf_section *section) { return (reader){section->data, section->bytes, 0}; }

static uint64_t number(reader *r, uint64_t at, uint32_t width) {
  uint64_t value = 0;
  if (at > r->bytes || r->bytes - at < width) {
    r->broken = 1;
    return 0;
  }
  for (uint32_t i = 0; i < width; i++) value |= (uint64_t)r->data[at + i] << 8 * i;
  return value;
}

/* Where field `index` of a table is; 0: it has none. A table at 0 has no fields. */
static uint64_t field(reader *r, uint64_t table, uint32_t index) {
  if (!table) return 0;
  const uint64_t virtual_table = table - (uint64_t)(int64_t)(int32_t)(uint32_t)number(r, table, 4);
  if (number(r, virtual_table, 2) < 6 + 2 * (uint64_t)index) return 0;
  const uint64_t offset = number(r, virtual_table + 4 + 2 * (uint64_t)index, 2);
  return offset ? table + offset : 0;
}

static uint64_t scalar(reader *r, uint64_t table, uint32_t index, uint32_t width, uint64_t otherwise) {
  const uint64_t at = field(r, table, index);
  return at ? number(r, at, width) : otherwise;
}

static uint64_t follow(reader *r, uint64_t at) { return at ? at + number(r, at, 4) : 0; }

static uint64_t root(reader *r) { return number(r, 0, 4); }

static uint64_t child(reader *r, uint64_t table, uint32_t index) { return follow(r, field(r, table, index)); }

/* The first element of a vector whose elements all lie in the section. */
static uint64_t vector(reader *r, uint64_t table, uint32_t index, uint32_t width, uint32_t *count) {
  const uint64_t at = child(r, table, index);
  *count = at ? (uint32_t)number(r, at, 4) : 0;
  if (*count && (r->broken || (r->bytes - at - 4) / width < *count)) {
    r->broken = 1;
    *count = 0;
  }
  return at + 4;
}

static uint64_t item(reader *r, uint64_t first, uint32_t index) { return follow(r, first + 4 * (uint64_t)index); }

static uint32_t bytes_of(VkFormat format) {
  switch (format) {
    case VK_FORMAT_R8_UINT:
    case VK_FORMAT_R8_SINT:
    case VK_FORMAT_R8_BOOL_ARM:
      return 1;
    case VK_FORMAT_R16_UINT:
    case VK_FORMAT_R16_SINT:
    case VK_FORMAT_R16_SFLOAT:
      return 2;
    case VK_FORMAT_R32_UINT:
    case VK_FORMAT_R32_SINT:
    case VK_FORMAT_R32_SFLOAT:
      return 4;
    default:
      return 0;
  }
}

static const char *take_sections(vgf *file, const uint8_t *data, uint64_t bytes) {
  reader r = {data, bytes, 0};
  vgf_section *const sections[] = {&file->modules, &file->sequence, &file->resources, &file->constants};
  if (bytes < HEADER_BYTES || memcmp(data, "VGF1", 4) != 0) return "no VGF";
  if (number(&r, 8, 1) != MAJOR || number(&r, 9, 1) > MINOR) return "a VGF of another version than 0.5";
  for (uint32_t i = 0; i < 4; i++) {
    const uint64_t offset = number(&r, SECTIONS + 16 * i, 8), size = number(&r, SECTIONS + 8 + 16 * i, 8);
    if (offset > bytes || bytes - offset < size) return "a VGF with a section beyond its end";
    *sections[i] = (vgf_section){data + offset, size};
  }
  return NULL;
}

static const char *take_module(vgf *file, uint32_t index) {
  reader r = reading(&file->modules);
  uint32_t count, letters;
  const uint64_t modules = vector(&r, root(&r), 0, 4, &count);
  if (r.broken || index >= count) return "a VGF without the module of its graph";
  const uint64_t module = item(&r, modules, index), entry = vector(&r, module, MODULE_ENTRY, 1, &letters);
  const uint64_t code = child(&r, module, MODULE_CODE);
  const uint64_t words = vector(&r, code, 0, 4, &file->num_words);
  if (r.broken || scalar(&r, module, MODULE_CODE_TYPE, 1, 0) != SPIRV || !file->num_words || !letters)
    return "a VGF whose graph has no SPIR-V";
  if (number(&r, entry + letters, 1) != 0 || r.broken) return "a VGF whose entry point has no end";
  if ((uintptr_t)(r.data + words) % 4) return "a VGF that is not aligned to 8 bytes";
  file->words = (const uint32_t *)(const void *)(r.data + words);
  file->entry = (const char *)r.data + entry;
  return NULL;
}

static const char *take_constants(const vgf *file) {
  reader r = reading(&file->constants);
  if (!file->num_constants) return NULL;
  if (r.bytes < 16 || memcmp(r.data, "CONST00", 8) != 0) return "a VGF whose constants are of another version";
  return number(&r, 8, 8) > (r.bytes - 16) / 24 ? "a VGF with fewer constants than it says" : NULL;
}

const char *vgf_open(vgf *file, const uint8_t *data, uint64_t bytes) {
  *file = (vgf){.words = NULL};
  const char *wrong = take_sections(file, data, bytes);
  if (wrong) return wrong;
  reader r = reading(&file->sequence), entries = reading(&file->resources);
  uint32_t segments, sets;
  const uint64_t first = vector(&r, root(&r), 0, 4, &segments), segment = segments ? item(&r, first, 0) : 0;
  const uint64_t set = vector(&r, segment, SEGMENT_SETS, 4, &sets);
  if (r.broken || segments != 1 || sets != 1 || scalar(&r, segment, SEGMENT_TYPE, 1, 0) != GRAPH ||
      (uint32_t)(scalar(&r, item(&r, set, 0), SET_INDEX, 4, UINT32_MAX) + 1) > 1)
    return "a VGF that is not one graph with one set of tensors";
  file->inputs = vector(&r, segment, SEGMENT_INPUTS, 4, &file->num_inputs);
  file->outputs = vector(&r, segment, SEGMENT_OUTPUTS, 4, &file->num_outputs);
  file->constant_numbers = vector(&r, segment, SEGMENT_CONSTANTS, 4, &file->num_constants);
  file->entries = vector(&entries, root(&entries), 0, 4, &file->num_entries);
  const uint32_t module = (uint32_t)scalar(&r, segment, SEGMENT_MODULE, 4, 0);
  if (r.broken || entries.broken) return "a VGF with a table beyond its end";
  wrong = take_module(file, module);
  return wrong ? wrong : take_constants(file);
}

/* Shape and format of entry `index` of the resources, which must be of `category`. */
static const char *take_entry(const vgf *file, uint32_t index, uint64_t category, vgf_tensor *out) {
  reader r = reading(&file->resources);
  if (index >= file->num_entries) return "a VGF without a tensor that it names";
  uint32_t strides;
  const uint64_t entry = item(&r, file->entries, index), description = child(&r, entry, ENTRY_DESCRIPTION);
  const uint64_t shape = vector(&r, description, 0, 8, &out->rank);
  vector(&r, description, 1, 8, &strides);
  out->format = (VkFormat)(uint32_t)scalar(&r, entry, ENTRY_FORMAT, 4, 0);
  out->bytes = out->element = bytes_of(out->format);
  if (r.broken || strides || scalar(&r, entry, ENTRY_CATEGORY, 1, 0) != category || !out->element || !out->rank ||
      out->rank > VGF_MOST_RANK)
    return "a VGF with a tensor that is not packed integers or floats of 1 to 6 axes";
  for (uint32_t i = 0; i < out->rank; i++) {
    const uint64_t extent = number(&r, shape + 8 * (uint64_t)i, 8);
    if (!extent || extent > UINT32_MAX || out->bytes > UINT32_MAX) return "a VGF with a tensor of 4 GB or none";
    out->bytes *= extent;
    out->shape[i] = (int64_t)extent;
  }
  return NULL;
}

const char *vgf_argument(const vgf *file, uint32_t index, vgf_tensor *out) {
  reader r = reading(&file->sequence);
  const int output = index >= file->num_inputs;
  const uint64_t slot = output ? item(&r, file->outputs, index - file->num_inputs) : item(&r, file->inputs, index);
  const uint32_t entry = (uint32_t)scalar(&r, slot, SLOT_ENTRY, 4, 0);
  out->binding = (uint32_t)scalar(&r, slot, SLOT_BINDING, 4, 0);
  return r.broken ? "a VGF with a table beyond its end" : take_entry(file, entry, output ? OUTPUT : INPUT, out);
}

const char *vgf_constant(const vgf *file, uint32_t index, vgf_tensor *out, const uint8_t **data) {
  reader r = reading(&file->constants), sequence = reading(&file->sequence);
  const uint64_t number_of = number(&sequence, file->constant_numbers + 4 * (uint64_t)index, 4);
  const uint64_t count = number(&r, 8, 8), row = 16 + 24 * number_of, data_at = 16 + 24 * count;
  if (number_of >= count) return "a VGF without a constant that it names";
  const uint64_t size = number(&r, row + 8, 8), offset = number(&r, row + 16, 8);
  const char *wrong = take_entry(file, (uint32_t)number(&r, row, 4), CONSTANT, out);
  if (wrong) return wrong;
  if ((uint32_t)number(&r, row + 4, 4) != UINT32_MAX || size != out->bytes || offset > r.bytes - data_at ||
      r.bytes - data_at - offset < size || r.broken)
    return "a VGF with a constant beyond its end";
  out->binding = (uint32_t)number_of;
  *data = r.data + data_at + offset;
  return NULL;
}
