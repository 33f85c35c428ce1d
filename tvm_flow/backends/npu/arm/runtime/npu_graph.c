#include "npu_graph.h"

#include "vf_memory.h"

VkTensorDescriptionARM npu_describe(const vgf_tensor *tensor) {
  return (VkTensorDescriptionARM){.sType = VK_STRUCTURE_TYPE_TENSOR_DESCRIPTION_ARM,
                                  .tiling = VK_TENSOR_TILING_LINEAR_ARM,
                                  .format = tensor->format,
                                  .dimensionCount = tensor->rank,
                                  .pDimensions = tensor->shape,
                                  .usage = VK_TENSOR_USAGE_DATA_GRAPH_BIT_ARM};
}

static tvm_flow_status read_file(const npu_device *device, const uint8_t *data, uint64_t bytes, const char *name,
                                 npu_graph *out, tvm_flow_error *error) {
  const char *wrong = vgf_open(&out->file, data, bytes);
  if (!wrong) {
    out->arguments = vf_take(&device->base, npu_arguments(out) * sizeof *out->arguments, "a graph", error);
    if (!out->arguments) return TVM_FLOW_NO_MEMORY;
  }
  for (uint32_t i = 0; !wrong && i < npu_arguments(out); i++) wrong = vgf_argument(&out->file, i, &out->arguments[i]);
  if (!wrong) return TVM_FLOW_OK;
  return vf_fail(error, TVM_FLOW_BAD_LIBRARY, "%.100s: expected the VGF of a graph, got %s; compile the bundle again",
                 name, wrong);
}

/* Descriptions beside what points at them. */
typedef struct {
  VkDataGraphPipelineResourceInfoARM *resources;
  VkDataGraphPipelineConstantARM *constants;
  VkTensorDescriptionARM *descriptions; /* of arguments, then of constants */
  vgf_tensor *tensors;                  /* of constants */
  VkDescriptorSetLayoutBinding *bindings;
} parts;

static void give_parts(const npu_device *device, const parts *p) {
  vf_give(&device->base, p->resources);
  vf_give(&device->base, p->constants);
  vf_give(&device->base, p->descriptions);
  vf_give(&device->base, p->tensors);
  vf_give(&device->base, p->bindings);
}

static tvm_flow_status take_parts(const npu_device *device, const npu_graph *graph, parts *p, tvm_flow_error *error) {
  const uint64_t arguments = npu_arguments(graph), constants = graph->file.num_constants, all = arguments + constants;
  *p = (parts){.resources = vf_take(&device->base, arguments * sizeof *p->resources, "a graph", error),
               .constants = vf_take(&device->base, constants * sizeof *p->constants, "a graph", error),
               .descriptions = vf_take(&device->base, all * sizeof *p->descriptions, "a graph", error),
               .tensors = vf_take(&device->base, constants * sizeof *p->tensors, "a graph", error),
               .bindings = vf_take(&device->base, arguments * sizeof *p->bindings, "a graph", error)};
  const int has_all = p->resources && p->constants && p->descriptions && p->tensors && p->bindings;
  return has_all ? TVM_FLOW_OK : TVM_FLOW_NO_MEMORY;
}

static const char *fill_parts(const npu_graph *graph, parts *p) {
  const uint32_t arguments = npu_arguments(graph);
  for (uint32_t i = 0; i < arguments; i++) {
    const vgf_tensor *tensor = &graph->arguments[i];
    p->descriptions[i] = npu_describe(tensor);
    p->resources[i] = (VkDataGraphPipelineResourceInfoARM){
        .sType = VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_RESOURCE_INFO_ARM,
        .pNext = &p->descriptions[i],
        .binding = tensor->binding};
    p->bindings[i] = (VkDescriptorSetLayoutBinding){.binding = tensor->binding,
                                                    .descriptorType = VK_DESCRIPTOR_TYPE_TENSOR_ARM,
                                                    .descriptorCount = 1,
                                                    .stageFlags = VK_SHADER_STAGE_ALL};
  }
  for (uint32_t i = 0; i < graph->file.num_constants; i++) {
    const uint8_t *data = NULL;
    const char *wrong = vgf_constant(&graph->file, i, &p->tensors[i], &data);
    if (wrong) return wrong;
    p->descriptions[arguments + i] = npu_describe(&p->tensors[i]);
    p->constants[i] =
        (VkDataGraphPipelineConstantARM){.sType = VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_CONSTANT_ARM,
                                         .pNext = &p->descriptions[arguments + i],
                                         .id = p->tensors[i].binding,
                                         .pConstantData = data};
  }
  return NULL;
}

static VkResult make_layouts(const npu_device *device, const parts *p, npu_graph *out) {
  const vf_functions *f = vf_of(&device->base);
  const VkDescriptorSetLayoutCreateInfo set = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                               .bindingCount = npu_arguments(out),
                                               .pBindings = p->bindings};
  const VkPipelineLayoutCreateInfo layout = {
      .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1, .pSetLayouts = &out->set};
  VkResult result;
  VF_MADE(result, f->vkCreateDescriptorSetLayout(device->base.device, &set, NULL, &out->set), out->set);
  if (result == VK_SUCCESS)
    VF_MADE(result, f->vkCreatePipelineLayout(device->base.device, &layout, NULL, &out->layout), out->layout);
  return result;
}

static VkResult make_pipeline(const npu_device *device, VkShaderModule module, const parts *p, npu_graph *out) {
  const VkDataGraphPipelineShaderModuleCreateInfoARM shader = {
      .sType = VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_SHADER_MODULE_CREATE_INFO_ARM,
      .module = module,
      .pName = out->file.entry,
      .constantCount = out->file.num_constants,
      .pConstants = p->constants};
  const VkDataGraphPipelineCreateInfoARM pipeline = {.sType = VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_CREATE_INFO_ARM,
                                                     .pNext = &shader,
                                                     .layout = out->layout,
                                                     .resourceInfoCount = npu_arguments(out),
                                                     .pResourceInfos = p->resources};
  VkResult result;
  VF_MADE(result, device->f.vkCreateDataGraphPipelinesARM(device->base.device, NULL, device->base.cache, 1, &pipeline,
                                                          NULL, &out->pipeline), out->pipeline);
  if (result != VK_SUCCESS) return result;
  const VkDataGraphPipelineSessionCreateInfoARM session = {
      .sType = VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_SESSION_CREATE_INFO_ARM, .dataGraphPipeline = out->pipeline};
  VF_MADE(result, device->f.vkCreateDataGraphPipelineSessionARM(device->base.device, &session, NULL, &out->session),
          out->session);
  return result;
}

static VkResult compile(const npu_device *device, const parts *p, npu_graph *out) {
  const VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                         .codeSize = out->file.num_words * (size_t)4,
                                         .pCode = out->file.words};
  const vf_functions *f = vf_of(&device->base);
  VkShaderModule module;
  VkResult result = make_layouts(device, p, out);
  if (result == VK_SUCCESS) result = f->vkCreateShaderModule(device->base.device, &info, NULL, &module);
  if (result != VK_SUCCESS) return result;
  result = make_pipeline(device, module, p, out);
  f->vkDestroyShaderModule(device->base.device, module, NULL);
  return result;
}

tvm_flow_status npu_graph_make(npu_device *device, const uint8_t *data, uint64_t bytes, const char *name,
                               npu_graph *out, tvm_flow_error *error) {
  tvm_flow_status s = read_file(device, data, bytes, name, out, error);
  if (s) return s;
  parts p;
  s = take_parts(device, out, &p, error);
  const char *wrong = s ? NULL : fill_parts(out, &p);
  if (wrong)
    s = vf_fail(error, TVM_FLOW_BAD_LIBRARY, "%.100s: expected the VGF of a graph, got %s; compile the bundle again",
                name, wrong);
  if (!s) s = vf_answer(error, compile(device, &p, out), name);
  give_parts(device, &p);
  return s;
}

void npu_graph_free(npu_device *device, npu_graph *graph) {
  const vf_functions *f = vf_of(&device->base);
  VkDevice of = device->base.device;
  if (graph->session) device->f.vkDestroyDataGraphPipelineSessionARM(of, graph->session, NULL);
  if (graph->pipeline) f->vkDestroyPipeline(of, graph->pipeline, NULL);
  if (graph->layout) f->vkDestroyPipelineLayout(of, graph->layout, NULL);
  if (graph->set) f->vkDestroyDescriptorSetLayout(of, graph->set, NULL);
  vf_give(&device->base, graph->arguments);
}

static VkResult bind(const npu_device *device, const npu_graph *graph, int32_t point, uint32_t object,
                     VkDeviceMemory memory, uint64_t *at, uint32_t *types) {
  const VkDataGraphPipelineSessionMemoryRequirementsInfoARM which = {
      .sType = VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_SESSION_MEMORY_REQUIREMENTS_INFO_ARM,
      .session = graph->session,
      .bindPoint = point,
      .objectIndex = object};
  VkMemoryRequirements2 needs = {.sType = VK_STRUCTURE_TYPE_MEMORY_REQUIREMENTS_2};
  device->f.vkGetDataGraphPipelineSessionMemoryRequirementsARM(device->base.device, &which, &needs);
  *at = vf_rounded(*at, needs.memoryRequirements.alignment);
  *types &= needs.memoryRequirements.memoryTypeBits;
  const VkBindDataGraphPipelineSessionMemoryInfoARM info = {
      .sType = VK_STRUCTURE_TYPE_BIND_DATA_GRAPH_PIPELINE_SESSION_MEMORY_INFO_ARM,
      .session = graph->session,
      .bindPoint = point,
      .objectIndex = object,
      .memory = memory,
      .memoryOffset = *at};
  *at += needs.memoryRequirements.size;
  return memory ? device->f.vkBindDataGraphPipelineSessionMemoryARM(device->base.device, 1, &info) : VK_SUCCESS;
}

tvm_flow_status npu_graph_memory(const npu_device *device, const npu_graph *graph, VkDeviceMemory memory,
                                 uint64_t *bytes, uint32_t *types, tvm_flow_error *error) {
  enum { MOST_POINTS = 8 };
  const VkDataGraphPipelineSessionBindPointRequirementsInfoARM info = {
      .sType = VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_SESSION_BIND_POINT_REQUIREMENTS_INFO_ARM,
      .session = graph->session};
  VkDataGraphPipelineSessionBindPointRequirementARM points[MOST_POINTS];
  uint32_t count = MOST_POINTS;
  uint64_t at = 0;
  for (uint32_t i = 0; i < MOST_POINTS; i++)
    points[i] = (VkDataGraphPipelineSessionBindPointRequirementARM){
        .sType = VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_SESSION_BIND_POINT_REQUIREMENT_ARM};
  VkResult result =
      device->f.vkGetDataGraphPipelineSessionBindPointRequirementsARM(device->base.device, &info, &count, points);
  for (uint32_t i = 0; result == VK_SUCCESS && i < count; i++)
    for (uint32_t object = 0; result == VK_SUCCESS && object < points[i].numObjects; object++)
      result = bind(device, graph, points[i].bindPoint, object, memory, &at, types);
  if (at > *bytes) *bytes = at;
  return vf_answer(error, result, "the memory of a graph");
}
