/* signature.bin, of a bundle whose steps.bin has the sha256 0, 1, 2 ..., by one trusted key and by the key that it names.
 * Nothing is accepted: nobody here has signed anything. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "tvm_flow_signature.h"

enum { KEY_AT = 208 };

int target_attempt(const uint8_t *data, size_t bytes) {
  uint8_t keys[2][32] = {{0x3d, 0x40, 0x17, 0xc3}}, sha256[32];
  tvm_flow_error error;
  for (int i = 0; i < 32; i++) sha256[i] = (uint8_t)i;
  if (bytes >= KEY_AT + sizeof keys[1]) memcpy(keys[1], data + KEY_AT, sizeof keys[1]);
  else keys[1][0] = 0x42;
  uint8_t *exact = malloc(bytes + !bytes);
  memcpy(exact, data, bytes);
  tvm_flow_trust trust = {.struct_bytes = sizeof trust, .num_keys = 2, .keys = keys, .model = "sneakers", .least = 3};
  const tvm_flow_identity identity = {.struct_bytes = sizeof identity,
                                      .signature_bytes = (uint32_t)bytes,
                                      .file = bytes % 2 ? "decoder.bin" : "steps.bin",
                                      .sha256 = sha256,
                                      .signature = exact};
  const tvm_flow_status s = tvm_flow_check_signature(&trust, &identity, &error);
  if (!s || s != error.status || memchr(error.message, 0, sizeof error.message) == NULL) abort();
  free(exact);
  return (int)s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) { return target_attempt(data, bytes), 0; }

/* As long as one is, with its first fields. */
size_t target_seed(uint8_t *out, size_t most) {
  static const char domain[32] = "tvm-flow bundle signature";
  const uint32_t numbers[2] = {1, 240};
  if (most < 304) return 0;
  memset(out, 0, 304);
  memcpy(out, domain, sizeof domain);
  memcpy(out + sizeof domain, numbers, sizeof numbers);
  memcpy(out + 48, "sneakers", 8);
  for (int i = 0; i < 32; i++) out[112 + i] = (uint8_t)i;
  memcpy(out + KEY_AT, "\xd7\x5a\x98\x01\x82\xb1\x0a\xb7", 8);
  return 304;
}
