/* Host memory as the device's own, where that shares the CPU's and can take what is mapped already. */
#ifndef TVM_FLOW_VF_IMPORT_H
#define TVM_FLOW_VF_IMPORT_H

#include "vf_memory.h"

/* The mapped weights as a buffer that shaders read: they lie in memory once. It stays zeroed where the device does not
 * take them, which drivers may decide by themselves: then they are copied, as everywhere else. */
void vf_import_weights(vf_device *device, vf_buffer *out);

#endif
