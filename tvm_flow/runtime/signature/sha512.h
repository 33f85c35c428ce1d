/* SHA-512 (FIPS 180-4), of parts that follow each other; for a kilobyte or so. */
#ifndef TVM_FLOW_SHA512_H
#define TVM_FLOW_SHA512_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  uint64_t h[8];
  uint64_t bytes; /* so far; less than 2^61 */
  uint8_t block[128];
} tvm_flow_sha512;

void tvm_flow_sha512_begin(tvm_flow_sha512 *hash);
void tvm_flow_sha512_add(tvm_flow_sha512 *hash, const uint8_t *data, size_t bytes);
void tvm_flow_sha512_end(tvm_flow_sha512 *hash, uint8_t digest[64]);

#endif
