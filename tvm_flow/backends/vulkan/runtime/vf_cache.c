#include "vf_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The driver's bytes follow. They are given to it only where all of this is as expected, their own header too: there
 * are drivers that end the process at a cache of another version. */
typedef struct {
  char magic[8];
  uint32_t format;
  uint32_t runtime; /* TVM_FLOW_VERSION */
  uint32_t vendor, device, driver_version, api_version;
  uint8_t uuid[16]; /* pipelineCacheUUID */
  char driver[32];
  uint64_t bytes;
  uint64_t hash; /* of the bytes */
} header;

/* What Vulkan puts before a driver's own bytes. */
typedef struct {
  uint32_t header_bytes, version, vendor, device;
  uint8_t uuid[16];
} driver_header;

enum { FORMAT = 1, MOST_BYTES = 256 << 20 };

static uint64_t hash_of(const uint8_t *data, uint64_t bytes) { /* FNV-1a */
  uint64_t hash = 0xcbf29ce484222325u;
  for (uint64_t i = 0; i < bytes; i++) hash = (hash ^ data[i]) * 0x100000001b3u;
  return hash;
}

static header expected_header(const vf_device *device) {
  const VkPhysicalDeviceProperties *p = &device->facts.properties;
  header h;
  memset(&h, 0, sizeof h); /* padding too: it is written and compared */
  memcpy(h.magic, "TFVKPIPE", sizeof h.magic);
  h.format = FORMAT;
  h.runtime = TVM_FLOW_VERSION;
  h.vendor = p->vendorID, h.device = p->deviceID, h.driver_version = p->driverVersion, h.api_version = p->apiVersion;
  memcpy(h.uuid, p->pipelineCacheUUID, sizeof h.uuid);
  memcpy(h.driver, device->facts.driver, strnlen(device->facts.driver, sizeof h.driver - 1));
  return h;
}

/* Both headers, the size and the hash. */
static int is_ours(const vf_device *device, const uint8_t *file, uint64_t bytes) {
  header found, own = expected_header(device);
  driver_header driver;
  if (bytes < sizeof found + sizeof driver) return 0;
  memcpy(&found, file, sizeof found);
  memcpy(&driver, file + sizeof found, sizeof driver);
  own.bytes = bytes - sizeof found;
  own.hash = found.hash;
  return memcmp(&found, &own, sizeof own) == 0 && hash_of(file + sizeof found, own.bytes) == own.hash &&
         driver.header_bytes >= sizeof driver && driver.header_bytes <= own.bytes && driver.version == 1 &&
         driver.vendor == own.vendor && driver.device == own.device &&
         memcmp(driver.uuid, own.uuid, sizeof own.uuid) == 0;
}

/* NULL where there is none, or it is not this device's. */
static uint8_t *read_file(const vf_device *device, uint64_t *bytes) {
  uint8_t *data = NULL;
  struct stat status;
  const int descriptor = open(device->cache_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo would wait */
  FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "rb");
  if (!file) return NULL;
  if (fstat(fileno(file), &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0 &&
      status.st_size <= MOST_BYTES && (data = vf_take(device, (uint64_t)status.st_size, "compiled pipelines", NULL))) {
    *bytes = (uint64_t)status.st_size;
    if (fread(data, 1, (size_t)*bytes, file) != *bytes || !is_ours(device, data, *bytes)) {
      vf_log(device, TVM_FLOW_LOG_WARNING, "%s is not this driver's, or damaged: pipelines are compiled again",
             device->cache_path);
      vf_give(device, data);
      data = NULL;
    }
  }
  fclose(file);
  return data;
}

static void choose_path(vf_device *device, const char *folder) {
  const VkPhysicalDeviceProperties *p = &device->facts.properties;
  char uuid[33];
  for (int i = 0; i < 16; i++) snprintf(uuid + 2 * i, 3, "%02x", p->pipelineCacheUUID[i]);
  if (!folder || !folder[0]) return;
  if (mkdir(folder, 0777) && errno != EEXIST)
    vf_log(device, TVM_FLOW_LOG_WARNING, "%.300s: no folder for compiled pipelines: %s", folder, strerror(errno));
  int length = snprintf(device->cache_path, sizeof device->cache_path, "%s/%08x-%08x-%s.pipelines", folder, p->vendorID,
                        p->deviceID, uuid);
  if (length < 0 || (size_t)length + 24 > sizeof device->cache_path) device->cache_path[0] = 0;
}

tvm_flow_status vf_cache_open(vf_device *device, const char *folder, tvm_flow_error *error) {
  uint64_t bytes = 0;
  choose_path(device, folder);
  uint8_t *file = device->cache_path[0] ? read_file(device, &bytes) : NULL;
  const VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                          .initialDataSize = file ? (size_t)(bytes - sizeof(header)) : 0,
                                          .pInitialData = file ? file + sizeof(header) : NULL};
  const VkPipelineCacheCreateInfo empty = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
  VkResult result;
  VF_MADE(result, vf_of(device)->vkCreatePipelineCache(device->device, &info, NULL, &device->cache), device->cache);
  if (result != VK_SUCCESS && file)
    VF_MADE(result, vf_of(device)->vkCreatePipelineCache(device->device, &empty, NULL, &device->cache), device->cache);
  device->cache_bytes = info.initialDataSize;
  vf_give(device, file);
  return vf_answer(error, result, "the cache of pipelines");
}

/* Whole under its name, or not at all. */
static int write_file(const char *path, const uint8_t *data, size_t bytes) {
  char temporary[544];
  snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
  FILE *file = fopen(temporary, "wbe");
  if (!file) return 0;
  int whole = fwrite(data, 1, bytes, file) == bytes && fflush(file) == 0 && fsync(fileno(file)) == 0;
  whole = fclose(file) == 0 && whole && rename(temporary, path) == 0;
  if (!whole) unlink(temporary);
  return whole;
}

void vf_cache_save(vf_device *device) {
  const vf_functions *f = vf_of(device);
  size_t bytes = 0;
  if (!device->cache_path[0] || !device->cache || device->lost) return;
  if (f->vkGetPipelineCacheData(device->device, device->cache, &bytes, NULL) != VK_SUCCESS) return;
  if (bytes <= device->cache_bytes || bytes > MOST_BYTES) return;
  uint8_t *file = vf_take(device, sizeof(header) + bytes, "compiled pipelines", NULL);
  if (!file) return;
  if (f->vkGetPipelineCacheData(device->device, device->cache, &bytes, file + sizeof(header)) == VK_SUCCESS) {
    header own = expected_header(device);
    own.bytes = bytes;
    own.hash = hash_of(file + sizeof own, bytes);
    memcpy(file, &own, sizeof own);
    if (write_file(device->cache_path, file, sizeof own + bytes)) device->cache_bytes = bytes;
    else
      vf_log(device, TVM_FLOW_LOG_WARNING, "%s: compiled pipelines are not kept: %s", device->cache_path,
             strerror(errno));
  }
  vf_give(device, file);
}

void vf_cache_close(vf_device *device) {
  if (device->cache) vf_of(device)->vkDestroyPipelineCache(device->device, device->cache, NULL);
  device->cache = NULL;
}
