/* The device's vtable: what a plan asks while it runs. */
#include "npu_bound.h"

const tvm_flow_device_type tvm_flow_device_npu_arm = {.abi = TVM_FLOW_DEVICE_ABI,
                                                      .struct_bytes = sizeof(tvm_flow_device_type),
                                                      .name = "npu_arm",
                                                      .open = npu_open,
                                                      .close = npu_close,
                                                      .bind = npu_bind,
                                                      .unbind = npu_unbind,
                                                      .step = vf_step,
                                                      .write = vf_write_tensor,
                                                      .read = vf_read_tensor,
                                                      .run = vf_run};
