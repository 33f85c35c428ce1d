/* Compiled pipelines on disk: what a driver made once it need not make at the next open. */
#ifndef TVM_FLOW_VF_CACHE_H
#define TVM_FLOW_VF_CACHE_H

#include "vf_device.h"

/* Makes device->cache, of what `folder` holds for this device and driver where that is whole. Whatever is wrong with
 * the folder is logged. */
tvm_flow_status vf_cache_open(vf_device *device, const char *folder, tvm_flow_error *error);

/* Writes it where it grew; what fails is logged. */
void vf_cache_save(vf_device *device);

void vf_cache_close(vf_device *device);

#endif
