#include "ed25519.h"

#include "monocypher/monocypher.h"
#include "sha512.h"

int tvm_flow_ed25519_check(const uint8_t signature[64], const uint8_t key[32], const uint8_t *message, size_t bytes) {
  uint8_t digest[64], reduced[32];
  tvm_flow_sha512 hash;
  tvm_flow_sha512_begin(&hash);
  tvm_flow_sha512_add(&hash, signature, 32);
  tvm_flow_sha512_add(&hash, key, 32);
  tvm_flow_sha512_add(&hash, message, bytes);
  tvm_flow_sha512_end(&hash, digest);
  crypto_eddsa_reduce(reduced, digest);
  return crypto_eddsa_check_equation(signature, key, reduced) == 0;
}

/* Monocypher compares 8 (s B - h A - R) with the identity: with s 0, h 1 and R the identity that asks for 8 A. */
int tvm_flow_ed25519_is_weak(const uint8_t key[32]) {
  static const uint8_t identity[64] = {1}, one[32] = {1};
  return crypto_eddsa_check_equation(identity, key, one) == 0;
}
