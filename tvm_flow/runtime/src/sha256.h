/* SHA-256 (FIPS 180-4). */
#ifndef TVM_FLOW_SHA256_H
#define TVM_FLOW_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { FLOW_SHA256_BYTES = 32 };

void flow_sha256(const void *data, size_t bytes, uint8_t digest[FLOW_SHA256_BYTES]);

#endif
