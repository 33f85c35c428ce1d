#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif
#include "ethosu_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ethosu_accel.h"

#ifdef __GLIBC__
typedef unsigned long request;
#else
typedef int request;
#endif

static int ask(const ethosu_linux *npu, unsigned long what, void *argument) {
  int status;
  do {
    status = ioctl(npu->file, (request)what, argument);
  } while (status < 0 && (errno == EINTR || errno == EAGAIN));
  return status < 0 ? -errno : 0;
}

int ethosu_linux_open(ethosu_linux *npu, const char *path) {
  ethosu_accel_info info = {0};
  ethosu_accel_query query = {.bytes = sizeof info, .info = (uintptr_t)&info};
  *npu = (ethosu_linux){.file = open(path, O_RDWR | O_CLOEXEC)};
  if (npu->file < 0) return -errno;
  const int status = ask(npu, ETHOSU_ACCEL_QUERY, &query);
  if (status) {
    ethosu_linux_close(npu);
    return status;
  }
  npu->id = info.id;
  npu->sram_bytes = info.sram_bytes;
  return 0;
}

void ethosu_linux_close(ethosu_linux *npu) {
  if (npu->file >= 0) close(npu->file);
  npu->file = -1;
}

static int make_buffer(const ethosu_linux *npu, uint32_t bytes, uint32_t *handle) {
  ethosu_accel_buffer buffer = {.bytes = bytes};
  if (!bytes) return 0;
  const int status = ask(npu, ETHOSU_ACCEL_BUFFER, &buffer);
  if (!status) *handle = buffer.handle;
  return status;
}

static int map(const ethosu_linux *npu, uint32_t handle, uint32_t bytes, uint8_t **out) {
  ethosu_accel_map where = {.handle = handle};
  const int status = ask(npu, ETHOSU_ACCEL_MAP, &where);
  if (status) return status;
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, npu->file, (off_t)where.offset);
  if (memory == MAP_FAILED) return -errno;
  *out = memory;
  return 0;
}

static int load_weights(const ethosu_linux *npu, const ethosu_region *region, ethosu_job *job) {
  uint8_t *memory;
  int status = make_buffer(npu, region->weights_bytes, &job->weights);
  if (status || !region->weights_bytes) return status;
  status = map(npu, job->weights, region->weights_bytes, &memory);
  if (status) return status;
  memcpy(memory, region->weights, region->weights_bytes);
  munmap(memory, region->weights_bytes);
  return 0;
}

static int load_commands(const ethosu_linux *npu, const ethosu_region *region, ethosu_job *job) {
  ethosu_accel_commands commands = {.bytes = region->commands_bytes - region->stream_offset,
                                    .words = (uintptr_t)(region->commands + region->stream_offset)};
  const int status = ask(npu, ETHOSU_ACCEL_COMMANDS, &commands);
  if (!status) job->commands = commands.handle;
  return status;
}

int ethosu_linux_load(const ethosu_linux *npu, const ethosu_region *region, ethosu_job *job) {
  *job = (ethosu_job){.npu = npu, .region = region};
  int status = load_commands(npu, region, job);
  if (!status) status = load_weights(npu, region, job);
  if (!status) status = make_buffer(npu, region->scratch_bytes, &job->scratch);
  if (!status) status = map(npu, job->scratch, region->scratch_bytes, &job->memory);
  if (!status && region->fast_bytes > npu->sram_bytes) status = make_buffer(npu, region->fast_bytes, &job->fast);
  if (status) ethosu_linux_unload(job);
  return status;
}

void ethosu_linux_unload(ethosu_job *job) {
  const uint32_t handles[] = {job->commands, job->weights, job->scratch, job->fast};
  if (job->memory) munmap(job->memory, job->region->scratch_bytes);
  for (unsigned i = 0; i < sizeof handles / sizeof *handles; i++) {
    ethosu_accel_close buffer = {.handle = handles[i]};
    if (handles[i]) ask(job->npu, ETHOSU_ACCEL_CLOSE, &buffer);
  }
  *job = (ethosu_job){.npu = NULL};
}

/* The output is in the scratch: waiting for that waits for the job. */
int ethosu_linux_run(const ethosu_job *job, int64_t nanoseconds) {
  const ethosu_accel_job what = {.commands = job->commands,
                                 .sram_bytes = job->fast ? 0 : job->region->fast_bytes,
                                 .regions = {job->weights, job->scratch, job->fast}};
  ethosu_accel_submit submit = {.jobs = (uintptr_t)&what, .count = 1};
  struct timespec now;
  const int status = ask(job->npu, ETHOSU_ACCEL_SUBMIT, &submit);
  if (status) return status;
  clock_gettime(CLOCK_MONOTONIC, &now);
  ethosu_accel_wait wait = {.handle = job->scratch,
                            .until_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec + nanoseconds};
  return ask(job->npu, ETHOSU_ACCEL_WAIT, &wait);
}
