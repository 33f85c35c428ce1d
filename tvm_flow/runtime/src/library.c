#include "library.h"

#include <string.h>

static tvm_flow_status check_abi(const char *path, const tvm_flow_library_descriptor *d, tvm_flow_error *error) {
  if (d->abi != TVM_FLOW_ABI || d->struct_bytes != sizeof *d)
    return flow_fail(error, TVM_FLOW_WRONG_ABI,
                     "%s: expected library ABI %u with a descriptor of %zu bytes, got ABI %u with %u bytes; compile "
                     "the bundle with the tvm-flow that this runtime came from",
                     path, TVM_FLOW_ABI, sizeof *d, d->abi, d->struct_bytes);
  return TVM_FLOW_OK;
}

/* Tables of another build would fit their spaces and mean something else. */
static tvm_flow_status check_linked(const flow_index_group *group, const tvm_flow_linked *row, tvm_flow_error *error) {
  if (!row->library)
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "options.linked: %s: expected a library, got NULL; pass "
                     "tvm_flow_linked_groups", row->group);
  if (!row->sha256 || memcmp(row->sha256, group->sha256, sizeof group->sha256) == 0) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_BAD_LIBRARY,
                   "%s: expected the library that is linked into this program, got a bundle of another build; link the "
                   "archives of this bundle, or open the one that they came with", group->path);
}

/* The row whose group is the file's name without ".so"; NULL when the library is not part of the program. */
static const tvm_flow_linked *find_linked(const tvm_flow_options *options, const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  for (uint32_t i = 0; i < options->num_linked; i++) {
    const tvm_flow_linked *row = &options->linked[i];
    size_t length = row->group ? strlen(row->group) : 0;
    if (length && strncmp(row->group, name, length) == 0 && strcmp(name + length, ".so") == 0) return row;
  }
  return NULL;
}

tvm_flow_status flow_library_open(const char *bundle_dir, const flow_signature *signature, uint32_t group,
                                  const tvm_flow_options *options, flow_library *out, tvm_flow_error *error) {
  const char *path = signature->groups[group].path;
  const tvm_flow_linked *linked = find_linked(options, path);
  *out = (flow_library){.descriptor = linked ? linked->library : NULL};
  tvm_flow_status s = linked ? check_linked(&signature->groups[group], linked, error)
                             : flow_load(signature->host, bundle_dir, &signature->groups[group], out, error);
  if (!s) s = check_abi(path, out->descriptor, error);
  if (!s) s = flow_check_cpu(path, out->descriptor->cpu_features, error);
  if (!s) s = flow_check_descriptor(path, out->descriptor, signature, group, error);
  if (s) flow_library_close(out);
  return s;
}

void flow_library_close(flow_library *library) {
  flow_unload(&library->loaded);
  *library = (flow_library){0};
}
