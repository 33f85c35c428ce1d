/* Optional part: opens bundles only if one of your keys signed them (`tvm-flow sign`), and none below a version.
 *
 *   static const uint8_t keys[][32] = {{0x3d, 0x40, ...}};             // printed by tvm-flow sign --new-key
 *   tvm_flow_trust trust = {.struct_bytes = sizeof trust, .num_keys = 1, .keys = keys, .model = "demo",
 *                           .least = 3};
 *   tvm_flow_options options = {.struct_bytes = sizeof options};
 *   options.accept = tvm_flow_check_signature, options.accept_user = &trust;
 *   if (tvm_flow_open("model.bundle", &options, &flow, &error)) ...    // trust.version: keep it as the next `least`
 *
 * The files of this folder and of monocypher/ are compiled into the program or the runtime (CMake: TVM_FLOW_SIGNATURE).
 * What is signed, byte for byte, is written in tvm_flow/pack/signature.py. Leave options.weights_checked 0, or what you
 * hashed yourself counts; weights.bin is mapped, so whoever may write to it changes weights, though no code, of an open
 * bundle. A signature says who made a bundle and which version it is, not that its makers meant well.
 */
#ifndef TVM_FLOW_SIGNATURE_H
#define TVM_FLOW_SIGNATURE_H

#include "tvm_flow_accept.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  uint32_t struct_bytes;     /* sizeof(tvm_flow_trust) */
  uint32_t num_keys;
  const uint8_t (*keys)[32]; /* public keys, [num_keys] */
  const char *model;         /* that the signature has to name; NULL: any */
  uint64_t least;            /* version that is accepted */
  uint64_t version;          /* written when it is: the bundle's own */
} tvm_flow_trust;

/* A tvm_flow_accept whose `user` is a tvm_flow_trust. One trust serves one call at a time.
 *
 * INVALID_ARGUMENT  a null pointer, another size, no key, a trusted key that anybody can sign with (as 32 zeros are)
 * NOT_SIGNED        there is no signature.bin
 * WRONG_SCHEMA      it is of another version of this format
 * UNKNOWN_KEY       it is by none of the keys
 * BAD_SIGNATURE     it was changed, is of another bundle, model or kind of file, or is not by the key that it names
 * OLDER_VERSION     its version is below `least` */
TVM_FLOW_API tvm_flow_status tvm_flow_check_signature(void *user, const tvm_flow_identity *identity,
                                                      tvm_flow_error *error);

#ifdef __cplusplus
}
#endif
#endif
