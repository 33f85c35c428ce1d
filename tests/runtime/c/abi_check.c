/* The runtime's own declarations against TVM's headers: compiles, or they have drifted apart. */
#include <dlpack/dlpack.h>
#include <stddef.h>
#include <tvm/ffi/c_api.h>

#include "tvm_abi.h"
#include "tvm_flow_library.h"

#define SAME_FIELD(ours, our_field, theirs, their_field)                                             \
  _Static_assert(offsetof(ours, our_field) == offsetof(theirs, their_field), #our_field " moved");   \
  _Static_assert(sizeof(((ours *)0)->our_field) == sizeof(((theirs *)0)->their_field), #our_field " has another size")

_Static_assert(sizeof(flow_any) == sizeof(TVMFFIAny) && sizeof(TVMFFIAny) == 16, "TVMFFIAny");
SAME_FIELD(flow_any, type_index, TVMFFIAny, type_index);
SAME_FIELD(flow_any, zero_padding, TVMFFIAny, zero_padding);
SAME_FIELD(flow_any, v_int64, TVMFFIAny, v_int64);
SAME_FIELD(flow_any, v_ptr, TVMFFIAny, v_ptr);
_Static_assert((int)FLOW_TYPE_NONE == (int)kTVMFFINone, "type index of nothing");
_Static_assert((int)FLOW_TYPE_DLTENSOR_PTR == (int)kTVMFFIDLTensorPtr, "type index of a DLTensor pointer");

_Static_assert(sizeof(flow_dltensor) == sizeof(DLTensor), "DLTensor");
SAME_FIELD(flow_dltensor, data, DLTensor, data);
SAME_FIELD(flow_dltensor, device, DLTensor, device);
SAME_FIELD(flow_dltensor, device.device_type, DLTensor, device.device_type);
SAME_FIELD(flow_dltensor, device.device_id, DLTensor, device.device_id);
SAME_FIELD(flow_dltensor, ndim, DLTensor, ndim);
SAME_FIELD(flow_dltensor, dtype.code, DLTensor, dtype.code);
SAME_FIELD(flow_dltensor, dtype.bits, DLTensor, dtype.bits);
SAME_FIELD(flow_dltensor, dtype.lanes, DLTensor, dtype.lanes);
SAME_FIELD(flow_dltensor, shape, DLTensor, shape);
SAME_FIELD(flow_dltensor, strides, DLTensor, strides);
SAME_FIELD(flow_dltensor, byte_offset, DLTensor, byte_offset);
_Static_assert((int)FLOW_DL_CPU == (int)kDLCPU, "device type");
_Static_assert(kDLInt == 0 && kDLUInt == 1 && kDLFloat == 2, "type codes of tvm_flow_tensor");

/* A kernel, as the descriptor declares it, must be callable as TVM compiles it. */
static int kernel(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)result;
  return num_args;
}

int main(void) {
  void (*raise)(const char *, const char **, int32_t) = TVMFFIErrorSetRaisedFromCStrParts;
  const tvm_flow_services services = {.raise = NULL};
  if (raise && services.raise) services.raise(NULL, "kind", (const char **){NULL}, 0);
  TVMFFISafeCallType as_tvm_knows_it = kernel;
  return as_tvm_knows_it(NULL, NULL, 0, NULL);
}
