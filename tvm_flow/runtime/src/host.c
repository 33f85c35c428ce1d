#include "host.h"

#include <string.h>

#include "platform.h"

flow_host flow_host_of(const tvm_flow_options *options) {
  flow_host host = {.allocate = flow_system_allocate, .release = flow_system_release};
  if (!options) return host;
  if (options->allocate) host.allocate = options->allocate, host.release = options->release;
  host.log = options->log;
  host.find = options->find;
  host.user = options->user;
  host.accept = options->accept;
  host.accept_user = options->accept_user;
  return host;
}

uint64_t flow_rounded(uint64_t bytes) { return bytes > SIZE_MAX / 2 ? bytes : (bytes / 64 + 1) * 64; }

void *flow_alloc(const flow_host *host, uint64_t bytes) {
  if (bytes > SIZE_MAX / 2) return NULL;
  const uint64_t rounded = flow_rounded(bytes);
  void *memory = host->allocate(host->user, rounded, 64);
  return memory ? memset(memory, 0, (size_t)rounded) : NULL;
}

void flow_free(const flow_host *host, void *memory) {
  if (memory) host->release(host->user, memory);
}
