/* Arguments and answers of the functions that TVM's RPC server calls on a board. */
#ifndef TVM_FLOW_BOARD_VALUES_H
#define TVM_FLOW_BOARD_VALUES_H

#include "../src/tvm_abi.h"

#define BOARD_FUNCTION(name) \
  int __tvm_ffi_board_##name(void *self, const flow_any *args, int32_t count, flow_any *result); \
  int __tvm_ffi_board_##name(void *self, const flow_any *args, int32_t count, flow_any *result)

enum { TYPE_INT = 1, OBJECT_BYTES = 24 };

/* A server that was built with another TVM passes tensors as objects, whose tensor follows the header. */
static inline const flow_dltensor *tensor(const flow_any *value) {
  const char *at = value->v_ptr;
  return (const void *)(value->type_index == FLOW_TYPE_DLTENSOR_PTR ? at : at + OBJECT_BYTES);
}

static inline int answer(flow_any *result, int64_t value) {
  *result = (flow_any){.type_index = TYPE_INT, .zero_padding = 0, {.v_int64 = value}};
  return 0;
}

#endif
