#include "accept.h"

static const char signature_file[] = "signature.bin";
enum { MOST = 4096 }; /* bytes of any schema */

static tvm_flow_status ask(const flow_host *host, const tvm_flow_identity *identity, tvm_flow_error *error) {
  tvm_flow_error own = {TVM_FLOW_OK, ""};
  const tvm_flow_status s = host->accept(host->accept_user, identity, &own);
  return s ? flow_fail(error, s, "%s", *own.message ? own.message : "refused by options.accept") : s;
}

tvm_flow_status flow_accept(const flow_host *host, const char *bundle_dir, const char *file, const flow_map *map,
                            tvm_flow_error *error) {
  if (!host->accept) return TVM_FLOW_OK;
  uint8_t digest[FLOW_SHA256_BYTES];
  flow_copy signature;
  tvm_flow_error own; /* *error is written on failure only, and a bundle without a signature may be accepted */
  tvm_flow_status s = flow_copy_file(host, bundle_dir, signature_file, MOST, &signature, &own);
  if (s && s != TVM_FLOW_FILE_ERROR) {
    if (error) *error = own;
    return s;
  }
  flow_sha256(map->data, (size_t)map->bytes, digest);
  const tvm_flow_identity identity = {.struct_bytes = sizeof identity,
                                      .signature_bytes = (uint32_t)signature.map.bytes,
                                      .file = file,
                                      .sha256 = digest,
                                      .signature = signature.map.data};
  s = ask(host, &identity, error);
  flow_drop_copy(&signature);
  return s;
}
