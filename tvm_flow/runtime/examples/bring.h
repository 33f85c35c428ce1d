/* What an example brings to tvm_flow_open beside the bundle. With -DSTATIC_GROUPS the groups, which are part of the
 * program; else devices: tvm_flow_device_NAME of each libtvm_flow_device_NAME.so beside it. Needs _DEFAULT_SOURCE. */
#ifndef BRING_H
#define BRING_H

#ifdef STATIC_GROUPS
#include "tvm_flow_groups.h"

static void bring(tvm_flow_options *options) {
  options->num_linked = tvm_flow_num_linked_groups, options->linked = tvm_flow_linked_groups;
}
#else
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tvm_flow_device.h"
#include "tvm_flow_library.h"

/* NULL, with the reason on stderr, where it cannot be loaded. */
static const tvm_flow_device_type *load_device(const char *folder, const char *file) {
  char path[8192], symbol[256];
  snprintf(path, sizeof path, "%s/%s", folder, file);
  snprintf(symbol, sizeof symbol, "%.*s", (int)(strlen(file) - strlen("lib.so")), file + strlen("lib"));
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  const tvm_flow_device_type *type = library ? dlsym(library, symbol) : NULL;
  if (!type) fprintf(stderr, "%s\n", dlerror());
  return type;
}

/* How many of `out` were filled; a bundle that names another one says so when it is opened. */
static uint32_t load_devices(const char *folder, const tvm_flow_device_type *out[TVM_FLOW_MAX_DEVICES]) {
  static const char begin[] = "libtvm_flow_device_";
  uint32_t count = 0;
  DIR *files = opendir(folder);
  for (struct dirent *file; files && count < TVM_FLOW_MAX_DEVICES && (file = readdir(files));) {
    const size_t name = strlen(file->d_name);
    if (strncmp(file->d_name, begin, sizeof begin - 1) == 0 && name > sizeof begin + 2 &&
        strcmp(file->d_name + name - 3, ".so") == 0 && (out[count] = load_device(folder, file->d_name)))
      count++;
  }
  if (files) closedir(files);
  return count;
}

static inline void bring(tvm_flow_options *options) {
  static const tvm_flow_device_type *devices[TVM_FLOW_MAX_DEVICES];
  char folder[4096];
  const ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
  if (length <= 0) return;
  folder[length] = 0;
  *strrchr(folder, '/') = 0;
  options->num_devices = load_devices(folder, devices), options->devices = devices;
}
#endif

#endif
