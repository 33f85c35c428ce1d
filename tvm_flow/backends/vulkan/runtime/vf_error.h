/* Errors of this device, in the words of the runtime: which thing, expected, got, what to do next. */
#ifndef TVM_FLOW_VF_ERROR_H
#define TVM_FLOW_VF_ERROR_H

#include "tvm_flow.h"
#include "vk_base.h"

#if defined(__GNUC__)
#define VF_PRINTS(text, first) __attribute__((format(printf, text, first)))
#else
#define VF_PRINTS(text, first)
#endif

/* Other devices use these files too. */
#ifndef VF_DEVICE_NAME
#define VF_DEVICE_NAME "vulkan"
#define VF_VARIABLES "TVM_FLOW_VULKAN_" /* how variables of the environment begin */
#endif
#define VF_PREFIX "device " VF_DEVICE_NAME ": "

/* Fills `error`, which may be NULL, with the prefix and the words, and returns `status`. */
tvm_flow_status vf_fail(tvm_flow_error *error, tvm_flow_status status, const char *format, ...) VF_PRINTS(3, 4);

/* What a function of Vulkan answered, as `what` was asked of it: OK, NO_MEMORY, or KERNEL_FAILED where nothing else
 * says it. */
tvm_flow_status vf_answer(tvm_flow_error *error, VkResult result, const char *what);

/* A handle is undefined where Vulkan failed to make it, and must not be given back. */
#define VF_MADE(result, call, handle) \
  do {                                \
    (result) = (call);                \
    if ((result) != VK_SUCCESS) (handle) = 0; \
  } while (0)

tvm_flow_status vf_no_memory(tvm_flow_error *error, const char *what);

#endif
