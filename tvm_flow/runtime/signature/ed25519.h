/* Ed25519 (RFC 8032), checking alone: the curve by Monocypher, the hash by sha512.c. */
#ifndef TVM_FLOW_ED25519_H
#define TVM_FLOW_ED25519_H

#include <stddef.h>
#include <stdint.h>

/* Non-zero where `signature` of the message is by the owner of `key`. Neither is secret, so time may depend on them. */
int tvm_flow_ed25519_check(const uint8_t signature[64], const uint8_t key[32], const uint8_t *message, size_t bytes);

/* Non-zero for a key whose signatures anybody can make, such as 32 zeros: a point of low order. */
int tvm_flow_ed25519_is_weak(const uint8_t key[32]);

#endif
