/* Reads lines "KEY SIGNATURE MESSAGE" in hexadecimal, "-" for no message; prints for each whether it holds, whether the key
 * is one that anybody can sign with, and the SHA-512 of the message. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ed25519.h"
#include "sha512.h"

enum { MOST = 4096 };

static size_t bytes_of(const char *text, uint8_t *out) {
  size_t bytes = 0;
  unsigned byte;
  for (; sscanf(text + 2 * bytes, "%2x", &byte) == 1; bytes++) out[bytes] = (uint8_t)byte;
  return bytes;
}

int main(void) {
  static char key[MOST], signature[MOST], message[2 * MOST];
  while (scanf("%4095s %4095s %8191s", key, signature, message) == 3) {
    uint8_t k[MOST], s[MOST], digest[64], *m = malloc(MOST);
    if (bytes_of(key, k) != 32 || bytes_of(signature, s) != 64 || !m) return 2;
    const size_t bytes = *message == '-' ? 0 : bytes_of(message, m);
    uint8_t *exact = malloc(bytes + !bytes); /* a byte beyond it is seen */
    memcpy(exact, m, bytes);
    tvm_flow_sha512 hash;
    tvm_flow_sha512_begin(&hash);
    tvm_flow_sha512_add(&hash, exact, bytes / 3);
    tvm_flow_sha512_add(&hash, exact + bytes / 3, bytes - bytes / 3);
    tvm_flow_sha512_end(&hash, digest);
    printf("%d %d ", tvm_flow_ed25519_check(s, k, exact, bytes), tvm_flow_ed25519_is_weak(k));
    for (int i = 0; i < 64; i++) printf("%02x", digest[i]);
    puts("");
    free(exact), free(m);
  }
  return 0;
}
