/* Buffers and what goes into and out of them. */
#ifndef TVM_FLOW_VF_MEMORY_H
#define TVM_FLOW_VF_MEMORY_H

#include "vf_device.h"

enum { VF_ALIGNMENT = 256 }; /* the most that a device may ask of a binding's offset */

static inline uint64_t vf_rounded(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

/* VF_DEVICE is mapped where the device shares its memory; VF_SHARED and VF_STAGING always are. */
typedef enum { VF_DEVICE, VF_SHARED, VF_STAGING } vf_kind;

/* The first sort of memory of `allowed` with all of `flags`; UINT32_MAX: none has them. */
uint32_t vf_memory_type(const vf_device *device, uint32_t allowed, VkMemoryPropertyFlags flags);

/* Reads the sorts of memory that there are; before the first buffer. */
void vf_memory_open(vf_device *device, int own_memory);

/* For a zeroed buffer; 0 bytes take none. vf_buffer_free frees it after a failure too. */
tvm_flow_status vf_buffer_make(vf_device *device, vf_kind kind, uint64_t bytes, const char *what, vf_buffer *out,
                               tvm_flow_error *error);
void vf_buffer_free(vf_device *device, vf_buffer *buffer);

/* Host bytes to `offset` of a buffer, and back; nothing runs on the device meanwhile. */
tvm_flow_status vf_write(vf_device *device, const vf_buffer *to, uint64_t offset, const void *host, uint64_t bytes,
                         tvm_flow_error *error);
tvm_flow_status vf_read(vf_device *device, const vf_buffer *from, uint64_t offset, void *host, uint64_t bytes,
                        tvm_flow_error *error);

#endif
