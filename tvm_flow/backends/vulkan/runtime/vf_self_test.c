#include "vf_self_test.h"

#include "vf_memory.h"
#include "vf_pipelines.h"
#include "vf_self_test_shader.h"

enum { ROWS = 13, WORDS = ROWS * ROWS, PART = 1024 }; /* a part of the buffer: left, right, sums */

/* Bytes of every size; every third word is four times -128. */
static uint32_t known_word(uint32_t seed) {
  return seed % 3 == 0 ? 0x80808080u : (seed * 2654435761u) ^ (seed * 40503u << 9);
}

static int32_t dot(uint32_t a, uint32_t b) {
  int32_t sum = 0;
  for (int i = 0; i < 32; i += 8) sum += (int8_t)(uint8_t)(a >> i) * (int8_t)(uint8_t)(b >> i);
  return sum;
}

static uint32_t left(uint32_t i) { return known_word(i); }
static uint32_t right(uint32_t i) { return known_word(i % 6 == 0 ? 0 : 7 * i + 1); }

static void fill(uint32_t *words) {
  for (uint32_t i = 0; i < WORDS; i++) {
    words[i] = left(i);
    words[PART / 4 + i] = right(i);
  }
}

static uint32_t wrong_rows(const uint32_t *words) {
  uint32_t wrong = 0;
  for (uint32_t row = 0; row < ROWS; row++) {
    int32_t sum = 0;
    for (uint32_t i = 0; i <= row; i++) sum += dot(left(ROWS * row + i), right(ROWS * row + i));
    wrong += words[2 * PART / 4 + row] != (uint32_t)sum;
  }
  return wrong;
}

static VkResult make_set(vf_device *device, const vf_compiled *shader, const vf_buffer *buffer, VkDescriptorPool *pool,
                         VkDescriptorSet *out) {
  const VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, .descriptorCount = 3};
  const VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                           .maxSets = 1,
                                           .poolSizeCount = 1,
                                           .pPoolSizes = &size};
  VkResult result;
  VF_MADE(result, vf_of(device)->vkCreateDescriptorPool(device->device, &info, NULL, pool), *pool);
  if (result != VK_SUCCESS) return result;
  const VkDescriptorSetAllocateInfo one = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                           .descriptorPool = *pool,
                                           .descriptorSetCount = 1,
                                           .pSetLayouts = &shader->set};
  result = vf_of(device)->vkAllocateDescriptorSets(device->device, &one, out);
  for (uint32_t i = 0; result == VK_SUCCESS && i < 3; i++) {
    const VkDescriptorBufferInfo part = {.buffer = buffer->buffer, .offset = i * (VkDeviceSize)PART, .range = PART};
    const VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                        .dstSet = *out,
                                        .dstBinding = i,
                                        .descriptorCount = 1,
                                        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                        .pBufferInfo = &part};
    vf_of(device)->vkUpdateDescriptorSets(device->device, 1, &write, 0, NULL);
  }
  return result;
}

static tvm_flow_status run(vf_device *device, const vf_compiled *shader, const vf_buffer *buffer,
                           tvm_flow_error *error) {
  const vf_functions *f = vf_of(device);
  const VkMemoryBarrier written = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                   .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
                                   .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
  VkDescriptorPool pool = {0};
  VkDescriptorSet set;
  VkCommandBuffer commands;
  VkResult result = make_set(device, shader, buffer, &pool, &set);
  tvm_flow_status s = result == VK_SUCCESS ? vf_begin(device, &commands, error)
                                           : vf_answer(error, result, "the self-test");
  if (!s) {
    f->vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, shader->pipeline);
    f->vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, shader->layout, 0, 1, &set, 0, NULL);
    f->vkCmdDispatch(commands, 1, 1, 1);
    f->vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &written,
                            0, NULL, 0, NULL);
    s = vf_finish(device, commands, "the self-test", error);
  }
  if (pool) f->vkDestroyDescriptorPool(device->device, pool, NULL);
  return s;
}

tvm_flow_status vf_self_test(vf_device *device, tvm_flow_error *error) {
  const vf_pipeline row = {.local = {ROWS, 1, 1}, .bindings = 7};
  vf_compiled shader = {0};
  vf_buffer buffer = {0};
  uint32_t wrong = 0;
  if (device->dot_is_known) return TVM_FLOW_OK;
  tvm_flow_status s = vf_buffer_make(device, VF_SHARED, 3 * PART, "the self-test", &buffer, error);
  if (!s)
    s = vf_compile(device, vf_self_test_shader, sizeof vf_self_test_shader / 4, &row, NULL, &shader, error);
  if (!s) {
    fill((uint32_t *)(void *)buffer.mapped);
    s = run(device, &shader, &buffer, error);
  }
  if (!s) wrong = wrong_rows((const uint32_t *)(void *)buffer.mapped);
  if (wrong) {
    vf_drop_dot(&device->facts);
    vf_log(device, TVM_FLOW_LOG_WARNING, "%s, %s: %u of %d sums of integer dot products are wrong; they are not used",
           device->facts.properties.deviceName, device->facts.driver, wrong, ROWS);
  }
  vf_compiled_free(device, &shader);
  vf_buffer_free(device, &buffer);
  device->dot_is_known = !s;
  return s;
}
