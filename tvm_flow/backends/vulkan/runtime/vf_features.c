#include "vf_features.h"

#include <stdio.h>
#include <string.h>

enum { SPIRV_MAGIC = 0x07230203, HEADER_WORDS = 5, OP_CAPABILITY = 17 };
enum { NOTHING = UINT32_MAX, NO_CORE = UINT32_MAX };

/* Rows of one feature follow each other, with one bit: NOTHING is what every device has. */
enum {
  INT16, INT64, FLOAT64, STORAGE16, UNIFORM16, STORAGE8, UNIFORM8, INT8, FLOAT16, DOT, BASIC, VOTE, ARITHMETIC, BALLOT,
  SHUFFLE, RELATIVE, CLUSTERED, ROUNDING, DENORMALS, FLUSHING, SPECIAL
};

static const struct {
  uint32_t capability;
  uint32_t feature;
  const char *name; /* NULL: of the row before */
} table[] = {
    {0, NOTHING, "Matrix"},
    {1, NOTHING, "Shader"},
    {22, INT16, "16-bit integers"},
    {11, INT64, "64-bit integers"},
    {10, FLOAT64, "64-bit floats"},
    {4433, STORAGE16, "16-bit storage"},
    {4434, UNIFORM16, "16-bit uniform buffers"},
    {4448, STORAGE8, "8-bit storage"},
    {4449, UNIFORM8, "8-bit uniform buffers"},
    {39, INT8, "8-bit integers"},
    {9, FLOAT16, "16-bit floats"},
    {6016, DOT, "integer dot product"},
    {6017, DOT, NULL},
    {6018, DOT, NULL},
    {6019, DOT, NULL},
    {61, BASIC, "subgroups"},
    {62, VOTE, "subgroup vote"},
    {63, ARITHMETIC, "subgroup arithmetic"},
    {64, BALLOT, "subgroup ballot"},
    {65, SHUFFLE, "subgroup shuffle"},
    {66, RELATIVE, "subgroup shuffle relative"},
    {67, CLUSTERED, "clustered subgroups"},
    {4467, ROUNDING, "rounding of 32-bit floats to even"},
    {4464, DENORMALS, "denormal 32-bit floats"},
    {4465, FLUSHING, "flushing of denormal 32-bit floats"},
    {4466, SPECIAL, "NaN and infinities of 32-bit floats"},
};
enum { ROWS = sizeof table / sizeof *table };

static int has_extension(const VkExtensionProperties *found, uint32_t count, const char *name) {
  for (uint32_t i = 0; i < count; i++)
    if (strcmp(found[i].extensionName, name) == 0) return 1;
  return 0;
}

/* An extension that is part of Vulkan from `core` on: whether the device has it, noted where it must be switched on. */
typedef struct {
  vf_facts *facts;
  const VkExtensionProperties *found;
  uint32_t count;
} extensions;

static int have(extensions *e, const char *name, uint32_t core) {
  if (e->facts->properties.apiVersion >= core) return 1;
  if (!has_extension(e->found, e->count, name)) return 0;
  e->facts->extensions[e->facts->num_extensions++] = name;
  return 1;
}

typedef struct {
  VkPhysicalDeviceProperties2 core;
  VkPhysicalDeviceIDProperties id;
  VkPhysicalDeviceSubgroupProperties subgroup;
  VkPhysicalDeviceMaintenance3Properties memory;
  VkPhysicalDeviceDriverProperties driver;
  VkPhysicalDeviceFloatControlsProperties floats;
  VkPhysicalDeviceExternalMemoryHostPropertiesEXT host;
} property_chain;

static void append(void *chain, void *next) {
  struct { VkStructureType sType; void *pNext; } *last = chain;
  while (last->pNext) last = last->pNext;
  last->pNext = next;
}

static void set(vf_facts *facts, uint32_t feature, VkBool32 has) { facts->has |= has ? 1u << feature : 0; }

static void note_features(vf_facts *facts, const vf_feature_chain *c, const property_chain *p) {
  const VkSubgroupFeatureFlags s = p->subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT
                                       ? p->subgroup.supportedOperations : 0;
  set(facts, INT16, c->core.features.shaderInt16);
  set(facts, INT64, c->core.features.shaderInt64);
  set(facts, FLOAT64, c->core.features.shaderFloat64);
  set(facts, STORAGE16, c->storage16.storageBuffer16BitAccess);
  set(facts, UNIFORM16, c->storage16.uniformAndStorageBuffer16BitAccess);
  set(facts, STORAGE8, c->storage8.storageBuffer8BitAccess);
  set(facts, UNIFORM8, c->storage8.uniformAndStorageBuffer8BitAccess);
  set(facts, INT8, c->small.shaderInt8);
  set(facts, FLOAT16, c->small.shaderFloat16);
  set(facts, DOT, c->dot.shaderIntegerDotProduct);
  set(facts, BASIC, s & VK_SUBGROUP_FEATURE_BASIC_BIT);
  set(facts, VOTE, s & VK_SUBGROUP_FEATURE_VOTE_BIT);
  set(facts, ARITHMETIC, s & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT);
  set(facts, BALLOT, s & VK_SUBGROUP_FEATURE_BALLOT_BIT);
  set(facts, SHUFFLE, s & VK_SUBGROUP_FEATURE_SHUFFLE_BIT);
  set(facts, RELATIVE, s & VK_SUBGROUP_FEATURE_SHUFFLE_RELATIVE_BIT);
  set(facts, CLUSTERED, s & VK_SUBGROUP_FEATURE_CLUSTERED_BIT);
  set(facts, ROUNDING, p->floats.shaderRoundingModeRTEFloat32);
  set(facts, DENORMALS, p->floats.shaderDenormPreserveFloat32);
  set(facts, FLUSHING, p->floats.shaderDenormFlushToZeroFloat32);
  set(facts, SPECIAL, p->floats.shaderSignedZeroInfNanPreserveFloat32);
}

static void note_spirv(extensions *e) {
  const uint32_t api = e->facts->properties.apiVersion;
  const int later = have(e, "VK_KHR_spirv_1_4", VK_API_VERSION_1_2);
  e->facts->most_spirv = api >= VK_API_VERSION_1_3 ? 0x10600 : api >= VK_API_VERSION_1_2 ? 0x10500 : later ? 0x10400
                                                                                                          : 0x10300;
}

static void note_properties(vf_facts *facts, const property_chain *p) {
  memcpy(facts->uuid, p->id.deviceUUID, sizeof facts->uuid);
  snprintf(facts->driver, sizeof facts->driver, "%s", p->driver.driverName);
  facts->subgroup = p->subgroup.subgroupSize;
  facts->most_allocated = p->memory.maxMemoryAllocationSize;
  facts->host_alignment = p->host.minImportedHostPointerAlignment;
}

/* What is asked for before it is switched on is not used: of the rest of the core features nothing is. */
static void look_further(const vf_functions *f, VkPhysicalDevice physical, const vf_wants *wants, extensions *e,
                         vf_feature_chain *c) {
  property_chain p = {.core = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2},
                      .id = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES},
                      .subgroup = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES},
                      .memory = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES},
                      .driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES},
                      .floats = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FLOAT_CONTROLS_PROPERTIES},
                      .host = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT}};
  append(&p, &p.id), append(&p, &p.subgroup), append(&p, &p.memory);
  if (have(e, "VK_KHR_driver_properties", VK_API_VERSION_1_2)) append(&p, &p.driver);
  if (have(e, "VK_KHR_shader_float_controls", VK_API_VERSION_1_2)) append(&p, &p.floats);
  if (have(e, "VK_EXT_external_memory_host", NO_CORE)) append(&p, &p.host);
  append(c, &c->storage16);
  if (have(e, "VK_KHR_8bit_storage", VK_API_VERSION_1_2)) append(c, &c->storage8);
  if (have(e, "VK_KHR_shader_float16_int8", VK_API_VERSION_1_2)) append(c, &c->small);
  if (have(e, "VK_KHR_shader_integer_dot_product", VK_API_VERSION_1_3)) append(c, &c->dot);
  if (have(e, "VK_KHR_maintenance4", VK_API_VERSION_1_3)) append(c, &c->later);
  note_spirv(e);
  for (uint32_t i = 0; wants && i < wants->num_extensions; i++)
    if (!have(e, wants->extensions[i], NO_CORE)) e->facts->lacks = wants->extensions[i];
  if (wants && !e->facts->lacks) append(c, wants->features);
  f->vkGetPhysicalDeviceProperties2(physical, &p.core);
  f->vkGetPhysicalDeviceFeatures2(physical, &c->core);
  note_properties(e->facts, &p);
  note_features(e->facts, c, &p);
  const VkPhysicalDeviceFeatures all = c->core.features;
  c->core.features = (VkPhysicalDeviceFeatures){
      .shaderInt16 = all.shaderInt16, .shaderInt64 = all.shaderInt64, .shaderFloat64 = all.shaderFloat64};
}

void vf_look(const vf_functions *f, VkPhysicalDevice physical, const vf_wants *wants, VkExtensionProperties *room,
             vf_facts *facts, vf_feature_chain *chain) {
  extensions e = {.facts = facts, .found = room, .count = VF_MOST_EXTENSIONS};
  VkPhysicalDeviceMemoryProperties memory;
  *facts = (vf_facts){0};
  *chain = (vf_feature_chain){
      .core = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2},
      .storage16 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES},
      .storage8 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES},
      .small = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES},
      .dot = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES},
      .later = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES}};
  f->vkGetPhysicalDeviceProperties(physical, &facts->properties);
  f->vkGetPhysicalDeviceMemoryProperties(physical, &memory);
  for (uint32_t i = 0; i < memory.memoryHeapCount; i++)
    if (memory.memoryHeaps[i].size > facts->memory_bytes) facts->memory_bytes = memory.memoryHeaps[i].size;
  facts->old = facts->properties.apiVersion < VK_API_VERSION_1_1;
  if (facts->old) return;
  const VkResult listed = f->vkEnumerateDeviceExtensionProperties(physical, NULL, &e.count, room);
  if (listed != VK_SUCCESS && listed != VK_INCOMPLETE) e.count = 0;
  look_further(f, physical, wants, &e, chain);
}

int vf_has_dot(const vf_facts *facts) { return (facts->has >> DOT & 1) != 0; }

void vf_drop_dot(vf_facts *facts) { facts->has &= ~(1u << DOT); }

static uint32_t find(uint32_t capability) {
  uint32_t row = 0;
  while (row < ROWS && table[row].capability != capability) row++;
  return row;
}

static const char *name_of(uint32_t row) {
  while (!table[row].name) row--;
  return table[row].name;
}

static tvm_flow_status check_capability(const vf_facts *facts, uint32_t capability, int *dot, tvm_flow_error *error) {
  const uint32_t row = find(capability);
  if (row == ROWS)
    return vf_fail(error, TVM_FLOW_NO_DEVICE, "a shader needs capability %u, which this runtime does not know; "
                   "update it, or compile the bundle for another target", capability);
  if (table[row].feature == DOT) *dot = 1;
  if (table[row].feature == NOTHING || facts->has >> table[row].feature & 1) return TVM_FLOW_OK;
  return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected a device with %s, which a shader needs, got %.100s without; "
                 "choose another (TVM_FLOW_VULKAN_DEVICE), or compile the bundle for another target", name_of(row),
                 facts->properties.deviceName);
}

tvm_flow_status vf_check_module(const vf_facts *facts, const uint32_t *word, uint32_t words, int *dot,
                                tvm_flow_error *error) {
  *dot = 0;
  if (words <= HEADER_WORDS || word[0] != SPIRV_MAGIC)
    return vf_fail(error, TVM_FLOW_BAD_LIBRARY, "expected a SPIR-V module, got other words; compile the bundle again");
  if (word[1] > facts->most_spirv)
    return vf_fail(error, TVM_FLOW_NO_DEVICE, "a shader is SPIR-V %u.%u, and %.100s takes up to %u.%u; compile the "
                   "bundle for an older Vulkan", word[1] >> 16 & 255, word[1] >> 8 & 255, facts->properties.deviceName,
                   facts->most_spirv >> 16 & 255, facts->most_spirv >> 8 & 255);
  tvm_flow_status lacking = TVM_FLOW_OK;
  for (uint32_t i = HEADER_WORDS; i + 1 < words && word[i] == (2u << 16 | OP_CAPABILITY); i += 2) {
    tvm_flow_status s = check_capability(facts, word[i + 1], dot, lacking ? NULL : error);
    if (s) lacking = s;
  }
  return lacking;
}

void vf_name_lacking(const vf_facts *facts, char out[VF_MOST_NAMES]) {
  size_t used = 0;
  out[0] = 0;
  if (facts->old) snprintf(out, VF_MOST_NAMES, "Vulkan 1.1");
  for (uint32_t row = 0; !facts->old && row < ROWS; row++) {
    if (!table[row].name || table[row].feature == NOTHING || facts->has >> table[row].feature & 1) continue;
    used += (size_t)snprintf(out + used, VF_MOST_NAMES - used, "%s%s", used ? ", " : "", table[row].name);
  }
}
