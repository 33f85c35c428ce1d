/* The device for kernels as shaders: its options and its vtable. */
#include <stdlib.h>
#include <string.h>

#include "tvm_flow_vulkan.h"
#include "vf_bound.h"

/* What the program says, and what the environment does where it says nothing. */
static vf_options read_options(const tvm_flow_device_open_info *info) {
  tvm_flow_vulkan own = {.device = NULL};
  vf_given_options(info, &own, sizeof own);
  const char *plain = getenv("TVM_FLOW_VULKAN_PLAIN_PRODUCTS"), *copies = getenv("TVM_FLOW_VULKAN_OWN_MEMORY");
  own.plain_products |= plain && plain[0] && strcmp(plain, "0") != 0;
  own.own_memory |= copies && copies[0] && strcmp(copies, "0") != 0;
  return (vf_options){.device = own.device ? own.device : getenv("TVM_FLOW_VULKAN_DEVICE"),
                      .cache = own.cache ? own.cache : getenv("TVM_FLOW_VULKAN_CACHE"),
                      .loader = own.loader,
                      .plain_products = own.plain_products != 0,
                      .own_memory = own.own_memory != 0};
}

static tvm_flow_status open_device(const tvm_flow_device_open_info *info, void **out, tvm_flow_error *error) {
  const vf_options options = read_options(info);
  vf_device *device = vf_take_device(info, sizeof *device, error);
  if (!device) return TVM_FLOW_NO_MEMORY;
  tvm_flow_status s = vf_open(device, info, &options, error);
  if (s) vf_close(device);
  else *out = device;
  return s;
}

const tvm_flow_device_type tvm_flow_device_vulkan = {.abi = TVM_FLOW_DEVICE_ABI,
                                                     .struct_bytes = sizeof(tvm_flow_device_type),
                                                     .name = "vulkan",
                                                     .open = open_device,
                                                     .close = vf_close,
                                                     .bind = vf_bind,
                                                     .unbind = vf_unbind,
                                                     .step = vf_step,
                                                     .write = vf_write_tensor,
                                                     .read = vf_read_tensor,
                                                     .run = vf_run};
