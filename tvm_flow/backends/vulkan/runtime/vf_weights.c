#include "vf_weights.h"

#include <string.h>

#include "vf_import.h"

enum { BLOCK_BYTES = 256 << 20 };

uint64_t vf_tensor_bytes(const tvm_flow_tensor *tensor) {
  uint64_t bytes = tensor->dtype_bits / 8u;
  for (int i = 0; i < tensor->ndim; i++) bytes *= (uint64_t)tensor->shape[i];
  return bytes;
}

uint64_t vf_tensor_reach(const tvm_flow_tensor *tensor) { return vf_rounded(vf_tensor_bytes(tensor), 16); }

const vf_window *vf_weights_find(const vf_device *device, uint64_t begin, uint64_t end) {
  for (const vf_window *w = device->windows; w < device->windows + device->num_windows; w++)
    if (w->begin <= begin && end <= w->end) return w;
  return NULL;
}

/* Places the new windows, which are counted already, one after the other into blocks of at most so many bytes. */
static tvm_flow_status note_windows(vf_device *device, const tvm_flow_library_descriptor *library, uint32_t row,
                                    uint64_t sizes[VF_MOST_BLOCKS], tvm_flow_error *error) {
  const uint64_t most = device->facts.most_allocated < BLOCK_BYTES ? device->facts.most_allocated : BLOCK_BYTES;
  uint32_t block = device->num_blocks;
  for (uint32_t i = 0; i < library->num_tensors; i++) {
    const tvm_flow_tensor *t = &library->tensors[i];
    if (t->device != row || t->space != TVM_FLOW_WEIGHTS) continue;
    const uint64_t begin = t->offset, end = begin + vf_tensor_reach(t);
    if (vf_weights_find(device, begin, end)) continue;
    if (block < VF_MOST_BLOCKS && sizes[block] && sizes[block] + (end - begin) > most) block++;
    if (block == VF_MOST_BLOCKS)
      return vf_fail(error, TVM_FLOW_NO_MEMORY, "expected weights in %d blocks of %llu bytes, got more; choose another "
                     "device", VF_MOST_BLOCKS, (unsigned long long)most);
    device->windows[device->num_windows++] =
        (vf_window){.begin = begin, .end = end, .offset = sizes[block], .block = block};
    sizes[block] += vf_rounded(end - begin, VF_ALIGNMENT);
  }
  return TVM_FLOW_OK;
}

static tvm_flow_status grow(vf_device *device, const tvm_flow_library_descriptor *library, uint32_t row,
                            tvm_flow_error *error) {
  uint64_t count = device->num_windows + 1; /* of all weights, where they are imported */
  for (uint32_t i = 0; i < library->num_tensors; i++)
    count += library->tensors[i].device == row && library->tensors[i].space == TVM_FLOW_WEIGHTS;
  vf_window *more = vf_take(device, count * sizeof *more, "the places of weights", error);
  if (!more) return TVM_FLOW_NO_MEMORY;
  if (device->windows) memcpy(more, device->windows, device->num_windows * sizeof *more);
  vf_give(device, device->windows);
  device->windows = more;
  return TVM_FLOW_OK;
}

/* Once, before anything is copied: then one window has what any plan reads. */
static void import_all(vf_device *device) {
  if (device->num_blocks) return;
  vf_import_weights(device, &device->blocks[0]);
  if (!device->blocks[0].buffer) return;
  device->windows[0] = (vf_window){.end = device->blocks[0].bytes};
  device->num_windows = device->num_blocks = 1;
}

tvm_flow_status vf_weights_add(vf_device *device, const tvm_flow_library_descriptor *library, uint32_t row,
                               tvm_flow_error *error) {
  uint64_t sizes[VF_MOST_BLOCKS] = {0};
  tvm_flow_status s = grow(device, library, row, error);
  if (!s) import_all(device);
  const uint32_t first = device->num_windows;
  if (!s) s = note_windows(device, library, row, sizes, error);
  for (uint32_t b = device->num_blocks; !s && b < VF_MOST_BLOCKS && sizes[b]; b++) {
    s = vf_buffer_make(device, VF_DEVICE, sizes[b], "weights", &device->blocks[b], error);
    device->num_blocks = b + 1;
  }
  for (uint32_t i = first; !s && i < device->num_windows; i++) {
    const vf_window *w = &device->windows[i];
    const uint64_t end = w->end < device->weights_bytes ? w->end : device->weights_bytes; /* the last 16 may be cut */
    s = vf_write(device, &device->blocks[w->block], w->offset, device->weights + w->begin, end - w->begin, error);
  }
  if (s) device->num_windows = first;
  return s;
}
