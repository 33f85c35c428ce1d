/* What devices have and shaders need: the capabilities of SPIR-V that this device knows. */
#ifndef TVM_FLOW_VF_FEATURES_H
#define TVM_FLOW_VF_FEATURES_H

#include "vf_error.h"
#include "vk_functions.h"

/* The structures by which features are asked for and switched on; they point at each other. */
typedef struct {
  VkPhysicalDeviceFeatures2 core;
  VkPhysicalDevice16BitStorageFeatures storage16;
  VkPhysicalDevice8BitStorageFeatures storage8;
  VkPhysicalDeviceShaderFloat16Int8Features small;
  VkPhysicalDeviceShaderIntegerDotProductFeatures dot;
  VkPhysicalDeviceMaintenance4Features later; /* sizes of workgroups as SPIR-V 1.6 has them */
} vf_feature_chain;

struct vf_instance;

/* What a device is asked for besides what shaders need. */
typedef struct {
  const char *const *extensions;
  uint32_t num_extensions;
  void *features; /* structures that point at each other: asked, then switched on */
  VkQueueFlags queue;
  /* Before the instance is made: layers, which are `user`'s. */
  tvm_flow_status (*link)(void *user, struct vf_instance *vulkan, tvm_flow_error *error);
  void *user;
} vf_wants;

/* A physical device as it was found. */
typedef struct {
  VkPhysicalDeviceProperties properties;
  uint8_t uuid[16];
  char driver[256];
  uint32_t subgroup;
  uint64_t most_allocated; /* at once */
  uint64_t memory_bytes;
  uint64_t host_alignment; /* of host memory that it takes as its own; 0: it takes none */
  uint32_t has; /* a bit for each row of the table of capabilities */
  int old;      /* before Vulkan 1.1: nothing else is known of it */
  uint32_t most_spirv; /* version, as a module has it */
  const char *lacks;          /* an extension that was wanted; NULL: none */
  const char *extensions[16]; /* to switch on */
  uint32_t num_extensions;
} vf_facts;

enum { VF_MOST_NAMES = 1024, VF_MOST_EXTENSIONS = 512 };

/* `room` is for VF_MOST_EXTENSIONS; `chain` is what to switch on, and stays where it is. `wants` may be NULL. */
void vf_look(const vf_functions *f, VkPhysicalDevice physical, const vf_wants *wants, VkExtensionProperties *room,
             vf_facts *facts, vf_feature_chain *chain);

/* Whether `facts` have what a module needs; `word` counts `words`. Sets *dot where it computes integer dot products.
 * BAD_LIBRARY for what is no module, NO_DEVICE naming what is lacking: *dot needs that, where it alone is. */
tvm_flow_status vf_check_module(const vf_facts *facts, const uint32_t *word, uint32_t words, int *dot,
                                tvm_flow_error *error);

/* Whether integer dot products may be used, as the driver says. */
int vf_has_dot(const vf_facts *facts);

/* As if it had none. */
void vf_drop_dot(vf_facts *facts);

/* Names of what `facts` lack, with commas. */
void vf_name_lacking(const vf_facts *facts, char out[VF_MOST_NAMES]);

#endif
