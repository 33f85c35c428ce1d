/* The shared constants that plans read: each once on the device, whatever the number of plans that name it. */
#ifndef TVM_FLOW_VF_WEIGHTS_H
#define TVM_FLOW_VF_WEIGHTS_H

#include "vf_memory.h"

/* Bytes of a tensor. */
uint64_t vf_tensor_bytes(const tvm_flow_tensor *tensor);

/* Bytes that its binding reaches over: the whole 16 of payload.h. */
uint64_t vf_tensor_reach(const tvm_flow_tensor *tensor);

/* Takes what tensors of device `row` of a library name in WEIGHTS and no plan before it did. */
tvm_flow_status vf_weights_add(vf_device *device, const tvm_flow_library_descriptor *library, uint32_t row,
                               tvm_flow_error *error);

/* The window with bytes [begin, end); NULL where none was taken. */
const vf_window *vf_weights_find(const vf_device *device, uint64_t begin, uint64_t end);

#endif
