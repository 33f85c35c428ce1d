/* The device's vtable: what a plan asks while it runs. */
#include "vf_bound.h"
#include "vf_clock.h"
#include "vf_weights.h"

static tvm_flow_status step(void *plan, uint32_t branch, const uint8_t *block, tvm_flow_error *error) {
  vf_bound *bound = plan;
  (void)branch;
  if (!bound->step.memory) return TVM_FLOW_OK;
  return vf_write(bound->device, &bound->step, 0, block, bound->library->step_bytes, error);
}

static tvm_flow_status write_tensor(void *plan, uint32_t tensor, uint32_t branch, const void *host,
                                    tvm_flow_error *error) {
  vf_bound *bound = plan;
  uint64_t offset;
  const vf_buffer *to = vf_place_of(bound, tensor, branch, &offset);
  return vf_write(bound->device, to, offset, host, vf_tensor_bytes(&bound->library->tensors[tensor]), error);
}

static tvm_flow_status read_tensor(void *plan, uint32_t tensor, uint32_t branch, void *host, tvm_flow_error *error) {
  vf_bound *bound = plan;
  uint64_t offset;
  const vf_buffer *from = vf_place_of(bound, tensor, branch, &offset);
  return vf_read(bound->device, from, offset, host, vf_tensor_bytes(&bound->library->tensors[tensor]), error);
}

static const char *first_kernel(const vf_bound *bound, uint32_t call) {
  return bound->library->kernel_names[bound->library->calls[call].kernel];
}

/* With `timed` between two readings of the device's clock. */
static tvm_flow_status record_now(vf_bound *bound, const tvm_flow_device_run *what, int timed, VkCommandBuffer *out,
                                  tvm_flow_error *error) {
  vf_device *device = bound->device;
  tvm_flow_status s = vf_begin(device, out, error);
  if (s) return s;
  if (timed) vf_clock_start(device, *out);
  s = vf_record(bound, what->first, what->count, what->branch, *out, error);
  if (timed) vf_clock_stop(device, *out);
  if (s) vf_of(device)->vkFreeCommandBuffers(device->device, device->commands, 1, out);
  return s;
}

/* A whole segment was recorded at bind; a part of one, or what is to be timed, is recorded now. */
static tvm_flow_status run(void *plan, const tvm_flow_device_run *what, tvm_flow_error *error) {
  vf_bound *bound = plan;
  const tvm_flow_segment *segment = &bound->library->segments[what->segment];
  const char *name = first_kernel(bound, what->first);
  uint64_t *clock = what->struct_bytes >= sizeof *what && bound->device->clock_bits ? what->device_ns : NULL;
  if (!clock && what->first == segment->first_call && what->count == segment->num_calls)
    return vf_submit(bound->device, bound->recorded[what->branch * bound->library->num_segments + what->segment], name,
                     error);
  VkCommandBuffer commands;
  tvm_flow_status s = clock ? vf_clock_open(bound->device, error) : TVM_FLOW_OK;
  if (!s) s = record_now(bound, what, clock != NULL, &commands, error);
  if (!s) s = vf_finish(bound->device, commands, name, error);
  return s || !clock ? s : vf_clock_read(bound->device, clock, error);
}

const tvm_flow_device_type tvm_flow_device_vulkan = {.abi = TVM_FLOW_DEVICE_ABI,
                                                     .struct_bytes = sizeof(tvm_flow_device_type),
                                                     .name = "vulkan",
                                                     .open = vf_open,
                                                     .close = vf_close,
                                                     .bind = vf_bind,
                                                     .unbind = vf_unbind,
                                                     .step = step,
                                                     .write = write_tensor,
                                                     .read = read_tensor,
                                                     .run = run};
