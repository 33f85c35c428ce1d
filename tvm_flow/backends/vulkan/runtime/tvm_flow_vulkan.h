/* Vulkan as a device of tvm-flow (tvm_flow_device.h), for programs that link it in.
 *
 *   const tvm_flow_device_type *const devices[] = {&tvm_flow_device_vulkan};
 *
 * takes what the environment says, and
 *
 *   tvm_flow_vulkan mine = {.type = tvm_flow_device_vulkan, .device = "Adreno"};
 *   mine.type.struct_bytes = sizeof mine;
 *   const tvm_flow_device_type *const devices[] = {&mine.type};
 *
 * what the program says; the structure stays until tvm_flow_close. Nothing is shared by handles. libvulkan is loaded
 * when a bundle needs it. What the device allocates comes from the handle's services, the driver's memory from the
 * driver. After a failure, a lost device too, the handle can be closed; a lost device needs another handle. */
#ifndef TVM_FLOW_VULKAN_H
#define TVM_FLOW_VULKAN_H

#include "tvm_flow_device.h"

#ifdef __cplusplus
extern "C" {
#endif

TVM_FLOW_API extern const tvm_flow_device_type tvm_flow_device_vulkan;

/* In each, NULL or 0 is the environment's variable, and where that is not set the default. */
typedef struct {
  tvm_flow_device_type type; /* first */
  /* A number of tvm_flow_vulkan_list, a UUID of 32 hexadecimal digits, or a part of the name, in any case.
   * TVM_FLOW_VULKAN_DEVICE; else the first that is no program on the CPU, else the first. */
  const char *device;
  /* Folder for compiled pipelines, made where it is not there; what cannot be kept is compiled again, and logged.
   * TVM_FLOW_VULKAN_CACHE; else nothing is kept. */
  const char *cache;
  const char *loader; /* TVM_FLOW_VULKAN_LOADER; else libvulkan.so.1 */
  uint32_t plain_products; /* non-zero: no integer dot products. TVM_FLOW_VULKAN_PLAIN_PRODUCTS */
  uint32_t own_memory; /* non-zero: copy as for a card with memory of its own. TVM_FLOW_VULKAN_OWN_MEMORY */
} tvm_flow_vulkan;

/* What a machine has. Texts are valid during the callback. */
typedef struct {
  uint32_t struct_bytes;
  uint32_t index;
  const char *name;
  const char *kind; /* "integrated GPU", ... */
  const char *driver;
  const char *lacks; /* names of features, with commas: shaders that need one are refused */
  uint8_t uuid[16];
  uint32_t api_version; /* as Vulkan packs it */
  uint32_t driver_version;
  uint32_t subgroup;
  uint32_t shared_bytes;
  uint32_t invocations;
  uint64_t memory_bytes; /* of its largest heap */
} tvm_flow_vulkan_device;

typedef int (*tvm_flow_vulkan_see)(void *user, const tvm_flow_vulkan_device *device);

/* Shows every device; non-zero of `see` ends it. `loader` as in tvm_flow_vulkan. NO_DEVICE without libvulkan or a
 * driver. */
TVM_FLOW_API tvm_flow_status tvm_flow_vulkan_list(const char *loader, tvm_flow_vulkan_see see, void *user,
                                                  tvm_flow_error *error);

#ifdef __cplusplus
}
#endif
#endif
