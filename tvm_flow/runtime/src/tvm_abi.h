/* The few structures of TVM 0.27 that cross into a kernel, declared here so that no TVM header is needed.
 *
 *   flow_any             TVMFFIAny            tvm/ffi/c_api.h        (apache-tvm-ffi 0.1.14)
 *   flow_dltensor        DLTensor             dlpack/dlpack.h
 *   flow_parallel_group  TVMParallelGroupEnv  tvm/runtime/c_backend_api.h
 *
 * tests/runtime/abi_check.c compares sizes and offsets with the originals.
 */
#ifndef TVM_FLOW_TVM_ABI_H
#define TVM_FLOW_TVM_ABI_H

#include <stdint.h>

enum { FLOW_TYPE_NONE = 0, FLOW_TYPE_DLTENSOR_PTR = 7, FLOW_DL_CPU = 1 };

typedef struct {
  int32_t type_index;
  uint32_t zero_padding;
  union {
    int64_t v_int64;
    void *v_ptr;
  };
} flow_any;

typedef struct {
  void *data;
  struct {
    int32_t device_type;
    int32_t device_id;
  } device;
  int32_t ndim;
  struct {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
  } dtype;
  int64_t *shape;
  int64_t *strides; /* NULL: dense, row-major */
  uint64_t byte_offset;
} flow_dltensor;

typedef struct {
  void *sync_handle;
  int32_t num_task;
} flow_parallel_group;

#endif
