/* flip_signature BUNDLE KEY: the status of its signature with each bit of it flipped, then with each length; on a line.
 * What is compared is what tvm_flow_open shows its options.accept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tvm_flow.h"
#include "tvm_flow_signature.h"

static tvm_flow_status at(tvm_flow_trust *trust, const tvm_flow_identity *identity, const uint8_t *data, size_t bytes) {
  uint8_t *exact = malloc(bytes + 1); /* what is read beyond its end is seen, but for one byte */
  memcpy(exact, data, bytes);
  tvm_flow_identity other = *identity;
  other.signature = exact, other.signature_bytes = (uint32_t)bytes;
  const tvm_flow_status s = tvm_flow_check_signature(trust, &other, NULL);
  free(exact);
  return s;
}

static tvm_flow_status try_all(void *user, const tvm_flow_identity *identity, tvm_flow_error *error) {
  uint8_t data[4096] = {0};
  const tvm_flow_status s = tvm_flow_check_signature(user, identity, error);
  if (s) return s;
  memcpy(data, identity->signature, identity->signature_bytes);
  for (size_t bit = 0; bit < 8 * (size_t)identity->signature_bytes; bit++) {
    data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    printf("%d ", at(user, identity, data, identity->signature_bytes));
    data[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  for (size_t bytes = 0; bytes < identity->signature_bytes + 2u; bytes++)
    printf("%d ", at(user, identity, data, bytes));
  return TVM_FLOW_OK;
}

int main(int argc, char **argv) {
  uint8_t key[1][32];
  unsigned byte;
  if (argc != 3) return 2;
  for (int i = 0; i < 32; i++) sscanf(argv[2] + 2 * i, "%2x", &byte), key[0][i] = (uint8_t)byte;
  tvm_flow_trust trust = {.struct_bytes = sizeof trust, .num_keys = 1, .keys = key};
  const tvm_flow_options options = {
      .struct_bytes = sizeof options, .threads = 1, .accept = try_all, .accept_user = &trust};
  tvm_flow *flow;
  const tvm_flow_status s = tvm_flow_open(argv[1], &options, &flow, NULL);
  tvm_flow_close(flow);
  return (int)s;
}
