#include "library.h"

#ifdef TVM_FLOW_NO_DLOPEN

tvm_flow_status flow_load(const flow_host *host, const char *bundle_dir, const flow_index_group *group,
                          flow_library *out, tvm_flow_error *error) {
  (void)host;
  (void)bundle_dir;
  *out = (flow_library){0};
  return flow_fail(error, TVM_FLOW_BAD_LIBRARY,
                   "%s: expected it among options.linked, for this runtime was built without dlopen, got none; link "
                   "libtvm_flow_groups.a of the bundle and pass tvm_flow_linked_groups",
                   group->path);
}

void flow_unload(flow_dl *loaded) { (void)loaded; }

#else

#include <string.h>

#include "limits.h"
#include "platform.h"

static tvm_flow_status load(const char *path, const flow_copy *file, flow_library *out, tvm_flow_error *error) {
  const char *slash = strrchr(path, '/');
  if (!file->runs)
    return flow_fail(error, FLOW_FOR(BAD_LIBRARY, NOEXEC), "%s: expected a file system that lets programs run, got one "
                     "that is mounted noexec; copy the bundle to another", path);
  const char *wrong = flow_dl_open(slash ? slash + 1 : path, file->map.data, file->map.bytes, &out->loaded);
  if (wrong)
    return flow_fail(error, TVM_FLOW_BAD_LIBRARY, "%s: could not load: %s; compile the bundle for this machine, or "
                     "link its groups into the program", path, wrong);
  out->descriptor = flow_dl_find(&out->loaded, "tvm_flow_library");
  if (out->descriptor) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_BAD_LIBRARY, "%s: expected a symbol tvm_flow_library, got none; compile the bundle "
                   "again", path);
}

/* Loading runs constructors, so the hash comes first, of the bytes that are loaded. */
tvm_flow_status flow_load(const flow_host *host, const char *bundle_dir, const flow_index_group *group,
                          flow_library *out, tvm_flow_error *error) {
  flow_copy file;
  tvm_flow_status s = flow_copy_file(host, bundle_dir, group->path, FLOW_MAX_LIBRARY_BYTES, &file, error);
  if (!s && group->library_bytes && file.map.bytes != group->library_bytes)
    s = flow_wrong_bytes(error, group->path, group->library_bytes, file.map.bytes);
  if (!s) s = flow_check_hash(group->path, &file.map, group->sha256, error);
  if (!s) s = flow_check_elf(group->path, &file.map, error);
  if (!s) s = load(group->path, &file, out, error);
  flow_drop_copy(&file);
  return s;
}

void flow_unload(flow_dl *loaded) { flow_dl_close(loaded); }

#endif
