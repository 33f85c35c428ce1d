/* Compiled pipelines on disk: which are given to the driver, of a device that this file makes up. */
/* The rest of the device is linked, whole. */
#define vf_cache_open here_cache_open
#define vf_cache_save here_cache_save
#define vf_cache_close here_cache_close
#include "../../tvm_flow/backends/vulkan/runtime/vf_cache.c"

#include "given.h"

static vf_device device = {.facts = {.properties = {.vendorID = 1, .deviceID = 2, .driverVersion = 3, .apiVersion = 4},
                                     .driver = "a driver"}};

int target_attempt(const uint8_t *data, size_t bytes) {
  uint8_t *exact = malloc(bytes + !bytes);
  memcpy(exact, data, bytes);
  const int ours = is_ours(&device, exact, bytes);
  if (ours && bytes < sizeof(header) + sizeof(driver_header)) abort();
  free(exact);
  return !ours;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  uint8_t *fixed = malloc(bytes + sizeof(header));
  header h;
  memcpy(fixed, data, bytes);
  target_attempt(fixed, bytes);
  if (bytes > sizeof h) {
    memcpy(&h, fixed, sizeof h);
    h.bytes = bytes - sizeof h, h.hash = hash_of(fixed + sizeof h, h.bytes);
    memcpy(fixed, &h, sizeof h);
    target_attempt(fixed, bytes);
  }
  free(fixed);
  return 0;
}

size_t target_seed(uint8_t *out, size_t most) {
  header h = expected_header(&device);
  driver_header driver = {.header_bytes = sizeof driver, .version = 1, .vendor = h.vendor, .device = h.device};
  if (most < sizeof h + 128) abort();
  memset(out, 7, sizeof h + 128);
  memcpy(out + sizeof h, &driver, sizeof driver);
  h.bytes = 128, h.hash = hash_of(out + sizeof h, h.bytes);
  memcpy(out, &h, sizeof h);
  if (target_attempt(out, sizeof h + 128)) abort();
  return sizeof h + 128;
}
