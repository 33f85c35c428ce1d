/* Whether a driver that says it has integer dot products computes them: some claim them and are wrong. */
#ifndef TVM_FLOW_VF_SELF_TEST_H
#define TVM_FLOW_VF_SELF_TEST_H

#include "vf_device.h"

/* Once for a device that has them: products of known bytes, -128 * -128 four times among them, in sums of 1 to 13
 * words. Where one is wrong the device has no dot products from then on, and the log says so. */
tvm_flow_status vf_self_test(vf_device *device, tvm_flow_error *error);

#endif
