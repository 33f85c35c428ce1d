/* odd_sizes BUNDLE: options and a decode request of every length, poisoned behind it. Prints the lengths that were
 * taken of each, and fails when one with part of a field was. */
#include <stdio.h>
#include <string.h>

#include "tvm_flow_control.h"

enum { BEHIND = 16 };

int main(int argc, char **argv) {
  unsigned char memory[sizeof(tvm_flow_options) + BEHIND];
  static float latents[4096], frames[4096];
  tvm_flow *flow;
  tvm_flow_decoder *decoder;
  if (argc != 2) return 2;
  for (uint32_t bytes = 0; bytes <= sizeof(tvm_flow_options) + 8; bytes++) {
    tvm_flow_options options = {.struct_bytes = bytes, .threads = 1};
    memset(memory, 0xff, sizeof memory);
    memcpy(memory, &options, bytes < 4 ? 4 : bytes < sizeof options ? bytes : sizeof options);
    if (!tvm_flow_open(argv[1], (const void *)memory, &flow, NULL)) printf("%u ", bytes);
    tvm_flow_close(flow);
  }
  printf("\n");
  if (tvm_flow_decoder_open(argv[1], NULL, &decoder, NULL)) return 3;
  for (uint32_t bytes = 0; bytes <= sizeof(tvm_flow_decode_request) + 8; bytes++) {
    tvm_flow_decode_request request = {.struct_bytes = bytes, .latents = latents, .frames = frames};
    memset(memory, 0xff, sizeof memory);
    memcpy(memory, &request, bytes < 4 ? 4 : bytes < sizeof request ? bytes : sizeof request);
    if (!tvm_flow_decode_with(decoder, (const void *)memory, NULL)) printf("%u ", bytes);
  }
  printf("\n");
  return (int)tvm_flow_decoder_close(decoder);
}
