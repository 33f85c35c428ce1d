#include "vf_error.h"

#include <stdarg.h>
#include <stdio.h>

tvm_flow_status vf_fail(tvm_flow_error *error, tvm_flow_status status, const char *format, ...) {
  if (!error) return status;
  va_list arguments;
  va_start(arguments, format);
  *error = (tvm_flow_error){.status = status}; /* nor a cause of an earlier failure */
  int used = snprintf(error->message, sizeof error->message, VF_PREFIX);
  vsnprintf(error->message + used, sizeof error->message - (size_t)used, format, arguments);
  va_end(arguments);
  return status;
}

tvm_flow_status vf_no_memory(tvm_flow_error *error, const char *what) {
  return vf_fail(error, TVM_FLOW_NO_MEMORY, "no memory for %s; free memory", what);
}

tvm_flow_status vf_answer(tvm_flow_error *error, VkResult result, const char *what) {
  switch (result) {
    case VK_SUCCESS:
      return TVM_FLOW_OK;
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
      return vf_no_memory(error, what);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
      return vf_fail(error, TVM_FLOW_NO_MEMORY, "no memory of the device for %s; close what else uses it", what);
    case VK_ERROR_DEVICE_LOST:
      return vf_fail(error, TVM_FLOW_KERNEL_FAILED,
                     "%s: the device was lost: its driver gave up; close the handle and open the bundle again", what);
    default:
      return vf_fail(error, TVM_FLOW_KERNEL_FAILED, "%s: expected the driver to do it, got VkResult %d; update the "
                     "driver, or choose another device", what, (int)result);
  }
}
