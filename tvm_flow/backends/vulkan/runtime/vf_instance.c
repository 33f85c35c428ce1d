#include "vf_instance.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ISO C has no conversion between pointers to data and to functions; POSIX has that of dlsym. */
static PFN_vkVoidFunction symbol(void *library, const char *name) {
  void *found = dlsym(library, name);
  PFN_vkVoidFunction function;
  memcpy(&function, &found, sizeof function);
  return function;
}

/* Names of functions, as their places follow each other in vf_functions. */
#define NAME(result, name, parameters) #name "\0"
static const char global_names[] = VF_GLOBAL_FUNCTIONS(NAME), instance_names[] = VF_INSTANCE_FUNCTIONS(NAME),
                  device_names[] = VF_DEVICE_FUNCTIONS(NAME), extension_names[] = VF_EXTENSION_FUNCTIONS(NAME);

/* The first of `names` that `find` does not know of `of`, or NULL. */
static const char *load(void *out, const char *names,
                        PFN_vkVoidFunction (*find)(struct vk_handle_s *of, const char *name), struct vk_handle_s *of) {
  const char *missing = NULL;
  for (char *at = out; names[0]; names += strlen(names) + 1, at += sizeof(PFN_vkVoidFunction)) {
    const PFN_vkVoidFunction found = find(of, names);
    memcpy(at, &found, sizeof found);
    if (!found && !missing) missing = names;
  }
  return missing;
}

static tvm_flow_status has_all(const char *missing, tvm_flow_error *error) {
  if (!missing) return TVM_FLOW_OK;
  return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected libvulkan and its driver to have %s, got none; install those of "
                 "Vulkan 1.1 or later", missing);
}

tvm_flow_status vf_load(void *out, const char *names,
                        PFN_vkVoidFunction (*find)(struct vk_handle_s *of, const char *name), struct vk_handle_s *of,
                        tvm_flow_error *error) {
  return has_all(load(out, names, find, of), error);
}

tvm_flow_status vf_load_device(vf_instance *vulkan, VkDevice device, tvm_flow_error *error) {
  vf_functions *f = &vulkan->f;
  load(&f->vkGetMemoryHostPointerPropertiesEXT, extension_names, f->vkGetDeviceProcAddr, device);
  return vf_load(&f->vkDestroyDevice, device_names, f->vkGetDeviceProcAddr, device, error);
}

static tvm_flow_status make_instance(vf_instance *vulkan, tvm_flow_error *error) {
  uint32_t version = 0;
  if (vulkan->f.vkEnumerateInstanceVersion(&version) != VK_SUCCESS) version = 0;
  if (version < VK_API_VERSION_1_1)
    return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected a libvulkan of Vulkan 1.1 or later, got %u.%u; install it",
                   version >> 22, version >> 12 & 1023);
  const VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                         .pEngineName = "tvm_flow",
                                         .engineVersion = TVM_FLOW_VERSION,
                                         .apiVersion = VK_API_VERSION_1_3};
  const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pNext = vulkan->instance_link,
                                     .pApplicationInfo = &application};
  VkResult result = vulkan->f.vkCreateInstance(&info, NULL, &vulkan->instance);
  if (result == VK_SUCCESS) {
    tvm_flow_status s =
        vf_load(&vulkan->f.vkDestroyInstance, instance_names, vulkan->find, vulkan->instance, error);
    if (vulkan->find_device) vulkan->f.vkGetDeviceProcAddr = vulkan->find_device; /* or libvulkan's, below the layers */
    return s;
  }
  vulkan->instance = NULL;
  if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
    return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected a driver for Vulkan, got none; install the GPU's, or "
                   "mesa-vulkan-drivers");
  return vf_answer(error, result, "the instance");
}

tvm_flow_status vf_instance_open(vf_instance *vulkan, const char *loader, const vf_wants *wants,
                                 tvm_flow_error *error) {
  if (!loader || !loader[0]) loader = getenv("TVM_FLOW_VULKAN_LOADER");
  const int given = loader && loader[0];
  vulkan->library = dlopen(given ? loader : "libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!vulkan->library && !given) vulkan->library = dlopen("libvulkan.so", RTLD_NOW | RTLD_LOCAL); /* Android */
  if (!vulkan->library)
    return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected libvulkan.so.1 or TVM_FLOW_VULKAN_LOADER, got: %.200s; install "
                   "libvulkan1 and the GPU's driver", dlerror());
  vulkan->find = (PFN_vkVoidFunction(*)(VkInstance, const char *))symbol(vulkan->library, "vkGetInstanceProcAddr");
  tvm_flow_status s = has_all(vulkan->find ? NULL : "vkGetInstanceProcAddr", error);
  if (!s) s = vf_load(&vulkan->f, global_names, vulkan->find, NULL, error);
  if (!s && wants) s = wants->link(wants->user, vulkan, error);
  return s ? s : make_instance(vulkan, error);
}

void vf_instance_close(vf_instance *vulkan) {
  if (vulkan->instance && vulkan->f.vkDestroyInstance) vulkan->f.vkDestroyInstance(vulkan->instance, NULL);
  if (vulkan->library) dlclose(vulkan->library);
  *vulkan = (vf_instance){0};
}

tvm_flow_status vf_devices(const vf_instance *vulkan, VkPhysicalDevice out[VF_MOST_DEVICES], uint32_t *count,
                           tvm_flow_error *error) {
  *count = VF_MOST_DEVICES;
  VkResult result = vulkan->f.vkEnumeratePhysicalDevices(vulkan->instance, count, out);
  if (result != VK_SUCCESS && result != VK_INCOMPLETE) return vf_answer(error, result, "the list of devices");
  if (*count) return TVM_FLOW_OK;
  return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected a GPU with a driver, got none; install its driver");
}

static int same_uuid(const char *text, const uint8_t uuid[16]) {
  char hex[33] = {0};
  size_t used = 0;
  for (; *text && used < 32; text++)
    if (*text != '-') hex[used++] = (char)tolower((unsigned char)*text);
  char own[33];
  for (int i = 0; i < 16; i++) snprintf(own + 2 * i, 3, "%02x", uuid[i]);
  return *text == 0 && strcmp(hex, own) == 0;
}

static int is_part(const char *part, const char *name) {
  for (; *name; name++) {
    size_t i = 0;
    while (part[i] && tolower((unsigned char)part[i]) == tolower((unsigned char)name[i])) i++;
    if (!part[i]) return 1;
  }
  return 0;
}

static int is_number(const char *text) {
  return text[0] && strspn(text, "0123456789") == strlen(text) && strlen(text) < 4;
}

tvm_flow_status vf_choose(const vf_instance *vulkan, const char *wanted, const vf_wants *wants,
                          VkExtensionProperties *room, VkPhysicalDevice *out, tvm_flow_error *error) {
  VkPhysicalDevice found[VF_MOST_DEVICES];
  vf_facts facts;
  vf_feature_chain chain;
  uint32_t count, last = 0, first = UINT32_MAX; /* that would do */
  const int any = !wanted || !wanted[0];
  tvm_flow_status s = vf_devices(vulkan, found, &count, error);
  if (s) return s;
  for (uint32_t i = 0; i < count; i++) {
    vf_look(&vulkan->f, found[last = i], wants, room, &facts, &chain);
    *out = found[i];
    if (any) {
      if (facts.lacks) continue;
      if (facts.properties.deviceType != VK_PHYSICAL_DEVICE_TYPE_CPU) return TVM_FLOW_OK;
      if (first == UINT32_MAX) first = i;
    } else if (is_number(wanted)) {
      if ((uint32_t)atoi(wanted) == i) return TVM_FLOW_OK;
    } else if (same_uuid(wanted, facts.uuid) || is_part(wanted, facts.properties.deviceName)) {
      return TVM_FLOW_OK;
    }
  }
  *out = found[first == UINT32_MAX ? 0 : first];
  if (any) return TVM_FLOW_OK;
  return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected a device %.64s, got %u without it, the last one %.100s; "
                 "correct " VF_VARIABLES "DEVICE, or the program's .device", wanted, last + 1,
                 facts.properties.deviceName);
}
