/* An opened device: its queue, its memory, and what it holds for all plans of a handle. */
#ifndef TVM_FLOW_VF_DEVICE_H
#define TVM_FLOW_VF_DEVICE_H

#include "tvm_flow_device.h"
#include "vf_instance.h"

/* Memory of the device, with its address for the host where that can write and read it. */
typedef struct {
  VkBuffer buffer;
  VkDeviceMemory memory;
  uint8_t *mapped;
  uint64_t bytes;
  uint32_t type; /* of memory */
} vf_buffer;

/* Bytes [begin, end) of the weights, at `offset` of a block. */
typedef struct {
  uint64_t begin, end;
  uint64_t offset;
  uint32_t block;
} vf_window;

enum { VF_MOST_BLOCKS = 64 };

typedef struct {
  const tvm_flow_services *services;
  const uint8_t *weights; /* the host's */
  uint64_t weights_bytes;
  uint32_t branches;
  const vf_wants *wants; /* NULL: what shaders need */
  vf_instance vulkan;
  VkPhysicalDevice physical;
  vf_facts facts;
  vf_feature_chain chain;
  VkPhysicalDeviceMemoryProperties memory;
  int own_memory;   /* copies go through `staging` */
  int dot_is_known; /* the self-test was made, or needs not be */
  VkDevice device;
  uint32_t family;
  uint32_t clock_bits; /* of a reading; 0: the queue has no clock */
  VkQueryPool clock;   /* made at the first question */
  VkQueue queue;
  VkCommandPool commands;
  VkFence fence;
  int lost;
  vf_buffer staging;
  vf_buffer arena; /* made at the first bind, when its shaders passed; prompts too, one for each branch */
  vf_buffer prompts;
  uint64_t arena_bytes;
  uint64_t prompt_bytes; /* from one branch to the next */
  vf_buffer blocks[VF_MOST_BLOCKS]; /* of weights */
  uint32_t num_blocks;
  vf_window *windows;
  uint32_t num_windows;
  VkPipelineCache cache;
  char cache_path[512]; /* empty: nothing is kept */
  uint64_t cache_bytes; /* when it was read */
} vf_device;

static inline const vf_functions *vf_of(const vf_device *device) { return &device->vulkan.f; }

/* Zeroed; NULL with the error. */
void *vf_take(const vf_device *device, uint64_t bytes, const char *what, tvm_flow_error *error);
void vf_give(const vf_device *device, void *memory);
void vf_log(const vf_device *device, uint32_t level, const char *format, ...) VF_PRINTS(3, 4);

/* How to open a device; texts may be NULL. */
typedef struct {
  const char *device; /* as vf_choose has it */
  const char *cache;
  const char *loader;
  int plain_products;
  int own_memory;
  const vf_wants *wants;
} vf_options;

/* Copies what a program gave with its vtable, at most `bytes`; `out` is left as it is where it gave nothing. */
void vf_given_options(const tvm_flow_device_open_info *info, void *out, size_t bytes);

/* Room for a device, zeroed: a vf_device, or a structure whose first member is one. NULL with the error. */
void *vf_take_device(const tvm_flow_device_open_info *info, size_t bytes, tvm_flow_error *error);

/* vf_close frees all, the room too, after a failure as well. */
tvm_flow_status vf_open(vf_device *device, const tvm_flow_device_open_info *info, const vf_options *options,
                        tvm_flow_error *error);
void vf_close(void *device);

/* A command buffer that is begun, to be ended and run with vf_finish, which frees it. */
tvm_flow_status vf_begin(vf_device *device, VkCommandBuffer *out, tvm_flow_error *error);
tvm_flow_status vf_finish(vf_device *device, VkCommandBuffer commands, const char *what, tvm_flow_error *error);

/* Runs what was recorded and waits for it. */
tvm_flow_status vf_submit(vf_device *device, VkCommandBuffer commands, const char *what, tvm_flow_error *error);

#endif
