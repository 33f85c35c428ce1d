/* Prints the sha256 of the bytes 0, 1, 2, ... for each length given. */
#include <stdio.h>
#include <stdlib.h>

#include "sha256.h"

int main(int argc, char **argv) {
  static uint8_t data[5000];
  for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)i;
  for (int i = 1; i < argc; i++) {
    uint8_t digest[FLOW_SHA256_BYTES];
    flow_sha256(data, (size_t)atoi(argv[i]), digest);
    for (int j = 0; j < FLOW_SHA256_BYTES; j++) printf("%02x", digest[j]);
    puts("");
  }
  return 0;
}
