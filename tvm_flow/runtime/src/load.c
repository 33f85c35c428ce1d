#include "library.h"

#ifdef TVM_FLOW_NO_DLOPEN

tvm_flow_status flow_load(const char *bundle_dir, const flow_index_group *group, flow_library *out,
                          tvm_flow_error *error) {
  (void)bundle_dir;
  *out = (flow_library){0};
  return flow_fail(error, TVM_FLOW_BAD_LIBRARY,
                   "%s: expected it among options.linked, for this runtime was built without dlopen, got none; link "
                   "libtvm_flow_groups.a of the bundle and pass tvm_flow_linked_groups",
                   group->path);
}

void flow_unload(void *loaded) { (void)loaded; }

#else

#include "platform.h"

static tvm_flow_status load(const char *bundle_dir, const char *path, flow_library *out, tvm_flow_error *error) {
  char full[FLOW_PLACE_BYTES];
  tvm_flow_status s = flow_join(bundle_dir, path, full, error);
  if (s) return s;
  out->loaded = flow_dl_open(full);
  if (!out->loaded)
    return flow_fail(error, TVM_FLOW_BAD_LIBRARY,
                     "%s: could not load: %s; compile the bundle for this machine, or copy it to a file system that is "
                     "not mounted noexec", path, flow_dl_error());
  out->descriptor = flow_dl_find(out->loaded, "tvm_flow_library");
  if (!out->descriptor)
    return flow_fail(error, TVM_FLOW_BAD_LIBRARY,
                     "%s: expected a symbol tvm_flow_library, got none; compile the bundle again", path);
  return TVM_FLOW_OK;
}

/* Loading runs constructors, so the hash comes first. */
tvm_flow_status flow_load(const char *bundle_dir, const flow_index_group *group, flow_library *out,
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

void flow_unload(void *loaded) {
  if (loaded) flow_dl_close(loaded);
}

#endif
