#include "vf_clock.h"

enum { READINGS = 2 };

tvm_flow_status vf_clock_open(vf_device *device, tvm_flow_error *error) {
  const VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                      .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                      .queryCount = READINGS};
  VkResult result = VK_SUCCESS;
  if (!device->clock)
    VF_MADE(result, vf_of(device)->vkCreateQueryPool(device->device, &info, NULL, &device->clock), device->clock);
  return vf_answer(error, result, "the clock");
}

void vf_clock_close(vf_device *device) {
  if (device->clock) vf_of(device)->vkDestroyQueryPool(device->device, device->clock, NULL);
  device->clock = 0;
}

void vf_clock_start(vf_device *device, VkCommandBuffer commands) {
  vf_of(device)->vkCmdResetQueryPool(commands, device->clock, 0, READINGS);
  vf_of(device)->vkCmdWriteTimestamp(commands, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT, device->clock, 0);
}

void vf_clock_stop(vf_device *device, VkCommandBuffer commands) {
  vf_of(device)->vkCmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, device->clock, 1);
}

/* The commands have ended, so a reading that is not there is the driver's fault: an error, and no wait. */
tvm_flow_status vf_clock_read(vf_device *device, uint64_t *nanoseconds, tvm_flow_error *error) {
  uint64_t ticks[READINGS];
  const uint64_t mask = UINT64_MAX >> (64 - device->clock_bits);
  const VkResult result = vf_of(device)->vkGetQueryPoolResults(device->device, device->clock, 0, READINGS, sizeof ticks,
                                                               ticks, sizeof *ticks, VK_QUERY_RESULT_64_BIT);
  device->lost |= result == VK_ERROR_DEVICE_LOST;
  if (result == VK_SUCCESS) /* the bits above are undefined, and the counter may have begun again */
    *nanoseconds = (uint64_t)((double)((ticks[1] - ticks[0]) & mask) *
                              (double)device->facts.properties.limits.timestampPeriod);
  return vf_answer(error, result, "the clock");
}
