#include "library.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static tvm_flow_status check_abi(const char *path, const tvm_flow_library_descriptor *d, tvm_flow_error *error) {
  if (d->abi != TVM_FLOW_ABI || d->struct_bytes != sizeof *d)
    return flow_fail(error, TVM_FLOW_WRONG_ABI,
                     "%s: expected library ABI %u with a descriptor of %zu bytes, got ABI %u with %u bytes; compile "
                     "the bundle with the tvm-flow that this runtime came from",
                     path, TVM_FLOW_ABI, sizeof *d, d->abi, d->struct_bytes);
  return TVM_FLOW_OK;
}

static tvm_flow_status load(const char *bundle_dir, const char *path, flow_library *out, tvm_flow_error *error) {
  char *full = flow_join(bundle_dir, path);
  if (!full) return flow_fail(error, TVM_FLOW_NO_MEMORY, "%s: no memory for its path; free memory", path);
  out->loaded = dlopen(full, RTLD_NOW | RTLD_LOCAL);
  free(full);
  if (!out->loaded)
    return flow_fail(error, TVM_FLOW_BAD_LIBRARY, "%s: could not load: %s; compile the bundle for this machine", path,
                     dlerror());
  out->descriptor = dlsym(out->loaded, "tvm_flow_library");
  if (!out->descriptor)
    return flow_fail(error, TVM_FLOW_BAD_LIBRARY,
                     "%s: expected a symbol tvm_flow_library, got none; compile the bundle again", path);
  return TVM_FLOW_OK;
}

/* Loading runs constructors, so the hash comes first. */
static tvm_flow_status load_checked(const char *bundle_dir, const flow_index_group *group, flow_library *out,
                                    tvm_flow_error *error) {
  flow_map file = {0};
  tvm_flow_status s = flow_map_file(bundle_dir, group->path, &file, error);
  if (!s) s = flow_check_hash(group->path, &file, group->sha256, error);
  if (!s) s = flow_check_elf(group->path, &file, error);
  if (!s) s = load(bundle_dir, group->path, out, error);
  if (!s) s = flow_check_loaded(group->path, &file, out->descriptor, error);
  flow_unmap(&file);
  return s;
}

/* The row whose group is the file's name without ".so"; NULL when the library is not part of the program. */
static const tvm_flow_library_descriptor *find_linked(const tvm_flow_options *options, const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  for (uint32_t i = 0; i < options->num_linked; i++) {
    const tvm_flow_linked *row = &options->linked[i];
    size_t length = row->group ? strlen(row->group) : 0;
    if (length && strncmp(row->group, name, length) == 0 && strcmp(name + length, ".so") == 0) return row->library;
  }
  return NULL;
}

tvm_flow_status flow_library_open(const char *bundle_dir, const flow_index *index, uint32_t group,
                                  const tvm_flow_options *options, flow_library *out, tvm_flow_error *error) {
  const char *path = index->groups[group].path;
  *out = (flow_library){.loaded = NULL, .descriptor = find_linked(options, path)};
  tvm_flow_status s = out->descriptor ? TVM_FLOW_OK : load_checked(bundle_dir, &index->groups[group], out, error);
  if (!s) s = check_abi(path, out->descriptor, error);
  if (!s) s = flow_check_cpu(path, out->descriptor->cpu_features, error);
  if (!s) s = flow_check_descriptor(path, out->descriptor, index, group, error);
  if (s) flow_library_close(out);
  return s;
}

void flow_library_close(flow_library *library) {
  if (library->loaded) dlclose(library->loaded);
  *library = (flow_library){0};
}
