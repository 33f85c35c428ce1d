/* try_signed BUNDLE MODEL LEAST KEY...: opens steps and decoder only where one of the keys (64 hexadecimal digits) signed
 * them as MODEL ("-": any) in version LEAST or later. Prints the statuses of tvm_flow_open, tvm_flow_plan,
 * tvm_flow_decoder_open and, where both are open, of the golden tests; of the last failure the cause and, after the
 * version, the message. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tvm_flow_cause.h"
#include "tvm_flow_memory.h"
#include "tvm_flow_signature.h"

enum { MOST = 8 };

static void read_key(const char *text, uint8_t key[32]) {
  for (int i = 0; i < 32; i++) {
    unsigned byte = 0;
    sscanf(text + 2 * i, "%2x", &byte);
    key[i] = (uint8_t)byte;
  }
}

int main(int argc, char **argv) {
  static uint8_t keys[MOST][32];
  if (argc < 4 || argc - 4 > MOST) return 2;
  for (int i = 4; i < argc; i++) read_key(argv[i], keys[i - 4]);
  tvm_flow_trust trust = {.struct_bytes = sizeof trust,
                          .num_keys = (uint32_t)argc - 4,
                          .keys = keys,
                          .model = strcmp(argv[2], "-") ? argv[2] : NULL,
                          .least = strtoull(argv[3], NULL, 10)};
  const tvm_flow_options options = {
      .struct_bytes = sizeof options, .threads = 1, .accept = tvm_flow_check_signature, .accept_user = &trust};
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  tvm_flow *flow;
  tvm_flow_decoder *decoder;
  tvm_flow_memory memory;
  printf("%d ", tvm_flow_open(argv[1], &options, &flow, &error));
  printf("%d ", tvm_flow_plan(argv[1], &options, &memory, &error));
  printf("%d ", tvm_flow_decoder_open(argv[1], &options, &decoder, &error));
  if (flow && decoder) printf("%d %d ", tvm_flow_verify(flow, &error), tvm_flow_decoder_verify(decoder, &error));
  tvm_flow_close(flow), tvm_flow_decoder_close(decoder);
  printf("cause %d version %llu: %s\n", tvm_flow_cause_of(&error), (unsigned long long)trust.version, error.message);
  return 0;
}
