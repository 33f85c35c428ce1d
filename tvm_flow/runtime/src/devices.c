#include "devices.h"

#include <string.h>

#include "device_cpu.h"

tvm_flow_status flow_check_device_types(const tvm_flow_options *options, tvm_flow_error *error) {
  if (options->num_devices && !options->devices)
    return flow_no_rows(error, "devices", options->num_devices);
  for (uint32_t i = 0; i < options->num_devices; i++) {
    const tvm_flow_device_type *t = options->devices[i];
    if (!t || t->abi != TVM_FLOW_DEVICE_ABI || t->struct_bytes < sizeof *t || !t->name)
      return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT,
                       "options.devices[%u]: expected a device of ABI %u with a name, got %s; compile it with this "
                       "runtime's headers", i, TVM_FLOW_DEVICE_ABI, t ? "another" : "NULL");
    if (!t->open || !t->close || !t->bind || !t->unbind || !t->step || !t->write || !t->read || !t->run)
      return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT,
                       "options.devices[%u]: %s: expected every function, got NULL for one; fill it in", i, t->name);
  }
  return TVM_FLOW_OK;
}

static flow_device *find(flow_devices *devices, const char *name) {
  for (uint32_t i = 0; i < devices->count; i++)
    if (strcmp(devices->rows[i].type->name, name) == 0) return &devices->rows[i];
  return NULL;
}

static const tvm_flow_device_type *find_type(const tvm_flow_options *options, const char *name) {
  for (uint32_t i = 0; i < options->num_devices; i++)
    if (strcmp(options->devices[i]->name, name) == 0) return options->devices[i];
  return NULL;
}

static tvm_flow_status add(flow_devices *devices, const char *path, const tvm_flow_device_row *row,
                           const tvm_flow_device_type *type, tvm_flow_error *error) {
  flow_device *device = find(devices, row->name);
  if (!device) {
    if (!type)
      return flow_fail(error, TVM_FLOW_NO_DEVICE,
                       "%s: expected a device \"%.64s\" among options.devices, got none of that name; link it in and "
                       "name it there, or compile the bundle for another target", path, row->name);
    if (devices->count == TVM_FLOW_MAX_DEVICES)
      return flow_fail(error, TVM_FLOW_BAD_LIBRARY, "%s: expected at most %d devices in a bundle; compile it for fewer",
                       path, TVM_FLOW_MAX_DEVICES);
    device = &devices->rows[devices->count++];
    *device = (flow_device){.type = type};
  }
  if (row->arena_bytes > device->arena_bytes) device->arena_bytes = row->arena_bytes;
  if (row->prompt_bytes > device->prompt_bytes) device->prompt_bytes = row->prompt_bytes;
  return TVM_FLOW_OK;
}

tvm_flow_status flow_devices_add(flow_devices *devices, const char *path, const tvm_flow_library_descriptor *library,
                                 const tvm_flow_options *options, tvm_flow_error *error) {
  const tvm_flow_device_row cpu = {
      .name = flow_device_cpu.name, .arena_bytes = library->arena_bytes, .prompt_bytes = library->prompt_bytes};
  tvm_flow_status s = add(devices, path, &cpu, &flow_device_cpu, error);
  for (uint32_t i = 1; !s && i < library->num_devices; i++)
    s = add(devices, path, &library->devices[i], find_type(options, library->devices[i].name), error);
  return s;
}

tvm_flow_status flow_devices_open(flow_devices *devices, const tvm_flow_device_open_info *info, tvm_flow_error *error) {
  tvm_flow_status s = TVM_FLOW_OK;
  for (uint32_t i = 0; !s && i < devices->count; i++) {
    flow_device *device = &devices->rows[i];
    tvm_flow_device_open_info own = *info;
    own.type = device->type;
    own.arena_bytes = device->arena_bytes;
    own.prompt_bytes = device->prompt_bytes;
    s = device->type->open(&own, &device->device, error);
    devices->opened += !s;
  }
  return s;
}

void flow_devices_close(flow_devices *devices) {
  while (devices->opened > 0) {
    const flow_device *device = &devices->rows[--devices->opened];
    device->type->close(device->device);
  }
}

const flow_device *flow_devices_of(const flow_devices *devices, const tvm_flow_library_descriptor *library,
                                   uint32_t row) {
  uint32_t i = 0;
  while (row > 0 && strcmp(devices->rows[i].type->name, library->devices[row].name) != 0) i++;
  return &devices->rows[i];
}
