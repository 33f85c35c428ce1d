/* Plays Linux's driver for Ethos-U for ethosu_linux.c, whose calls of the system are renamed to those here: it checks
 * what it is asked as the kernel does, and "runs" a job by adding 1 to each byte of the input into the output. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "ethosu_accel.h"
#include "ethosu_linux.h"

enum { FILE_NUMBER = 77, MOST = 64, PAGE = 4096, SRAM = 1000 };

static struct { uint8_t *data; uint64_t bytes; int commands; int mapped; } buffers[MOST];
static int opened, asked, fails = -1, interrupted, late;
static const ethosu_region *expected;

#define EXPECT(what)                                              \
  do {                                                            \
    if (!(what)) {                                                \
      fprintf(stderr, "line %d: expected %s\n", __LINE__, #what); \
      exit(1);                                                    \
    }                                                             \
  } while (0)

int played_open(const char *path, int flags, ...);
int played_close(int file);
int played_ioctl(int file, unsigned long what, ...);
void *played_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset);
int played_munmap(void *at, size_t bytes);

int played_open(const char *path, int flags, ...) {
  (void)flags;
  if (strcmp(path, "/dev/accel/accel0") != 0) return errno = ENOENT, -1;
  opened++;
  return FILE_NUMBER;
}

int played_close(int file) {
  EXPECT(file == FILE_NUMBER && opened == 1);
  opened--;
  return 0;
}

static uint32_t add(uint64_t bytes, int commands) {
  uint32_t handle = 1;
  while (buffers[handle].data) handle++;
  buffers[handle].bytes = (bytes + PAGE - 1) / PAGE * PAGE;
  buffers[handle].data = calloc(1, buffers[handle].bytes);
  buffers[handle].commands = commands;
  return handle;
}

static void check_words(const ethosu_accel_commands *c) {
  const uint32_t *words = (const uint32_t *)(uintptr_t)c->words;
  EXPECT(c->flags == 0 && c->zero == 0 && c->bytes % 4 == 0 && c->words % 4 == 0);
  EXPECT(words[0] != 0x31504f43); /* what is for another driver */
  EXPECT(words[c->bytes / 4 - 1] == 0xffff0000); /* stop */
}

static void run(const ethosu_accel_job *job) {
  const ethosu_region *r = expected;
  EXPECT(buffers[job->commands].commands && job->regions[0] && job->regions[1]);
  EXPECT(!job->regions[2] || !job->sram_bytes);
  EXPECT(job->sram_bytes <= SRAM && (!r->fast_bytes || job->regions[2] || job->sram_bytes == r->fast_bytes));
  for (int i = 3; i < 8; i++) EXPECT(job->regions[i] == 0);
  EXPECT(memcmp(buffers[job->regions[0]].data, r->weights, r->weights_bytes) == 0);
  EXPECT(buffers[job->regions[1]].bytes >= r->scratch_bytes);
  uint8_t *scratch = buffers[job->regions[1]].data;
  for (uint32_t i = 0; i < 8; i++) scratch[r->output_offset + i] = (uint8_t)(scratch[r->input_offsets[0] + i] + 1);
}

int played_ioctl(int file, unsigned long what, ...) {
  va_list arguments;
  va_start(arguments, what);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  EXPECT(file == FILE_NUMBER && opened);
  if (interrupted++ % 3 == 0) return errno = EINTR, -1;
  if (what != ETHOSU_ACCEL_CLOSE && asked++ == fails) return errno = ENOMEM, -1;
  if (what == ETHOSU_ACCEL_QUERY) {
    const ethosu_accel_query *q = argument;
    EXPECT(q->kind == 0 && q->bytes == sizeof(ethosu_accel_info));
    *(ethosu_accel_info *)(uintptr_t)q->info = (ethosu_accel_info){.id = 0x20000000, .sram_bytes = SRAM};
  } else if (what == ETHOSU_ACCEL_BUFFER) {
    ethosu_accel_buffer *b = argument;
    EXPECT(b->bytes && b->flags == 0);
    b->handle = add(b->bytes, 0);
  } else if (what == ETHOSU_ACCEL_COMMANDS) {
    check_words(argument);
    ((ethosu_accel_commands *)argument)->handle = add(4, 1);
  } else if (what == ETHOSU_ACCEL_MAP) {
    ethosu_accel_map *m = argument;
    EXPECT(m->zero == 0 && buffers[m->handle].data && !buffers[m->handle].commands);
    m->offset = (uint64_t)m->handle << 32;
  } else if (what == ETHOSU_ACCEL_SUBMIT) {
    const ethosu_accel_submit *s = argument;
    EXPECT(s->count == 1 && s->zero == 0);
    run((const ethosu_accel_job *)(uintptr_t)s->jobs);
  } else if (what == ETHOSU_ACCEL_WAIT) {
    const ethosu_accel_wait *w = argument;
    EXPECT(w->zero == 0 && w->until_ns > 1000000000 && buffers[w->handle].data);
    if (late) return errno = ETIME, -1;
  } else {
    const ethosu_accel_close *c = argument;
    EXPECT(what == ETHOSU_ACCEL_CLOSE && buffers[c->handle].data && !buffers[c->handle].mapped);
    free(buffers[c->handle].data);
    buffers[c->handle].data = NULL;
  }
  return 0;
}

void *played_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
  const uint64_t handle = (uint64_t)offset >> 32;
  (void)protection, (void)flags;
  EXPECT(!at && file == FILE_NUMBER && buffers[handle].bytes >= bytes);
  buffers[handle].mapped++;
  return buffers[handle].data;
}

int played_munmap(void *at, size_t bytes) {
  for (int i = 1; i < MOST; i++)
    if (buffers[i].data == at) {
      EXPECT(bytes <= buffers[i].bytes && buffers[i].mapped == 1);
      buffers[i].mapped--;
      return 0;
    }
  EXPECT(0);
  return -1;
}

static void expect_nothing_left(void) {
  for (int i = 1; i < MOST; i++) EXPECT(!buffers[i].data);
}

static int try(const ethosu_region *region) {
  ethosu_linux npu;
  ethosu_job job;
  asked = 0, expected = region;
  int status = ethosu_linux_open(&npu, "/dev/accel/accel0");
  if (status) return status;
  EXPECT(npu.sram_bytes == SRAM && npu.id == 0x20000000);
  status = ethosu_linux_load(&npu, region, &job);
  for (int round = 0; !status && round < 2; round++) {
    memset(job.memory + region->input_offsets[0], 41 + round, 8);
    status = ethosu_linux_run(&job, 1000000000);
    for (int i = 0; !status && i < 8; i++) EXPECT(job.memory[region->output_offset + (uint32_t)i] == 42 + round);
    if (status) ethosu_linux_unload(&job);
  }
  if (!status) ethosu_linux_unload(&job);
  expect_nothing_left();
  ethosu_linux_close(&npu);
  EXPECT(!opened);
  return status;
}

extern const ethosu_region REGION;

int main(void) {
  ethosu_linux npu;
  ethosu_region larger = REGION;
  EXPECT(ethosu_linux_open(&npu, "/dev/nothing") == -ENOENT);
  EXPECT(try(&REGION) == 0);
  const int all = asked;
  for (fails = 0; fails < all; fails++) EXPECT(try(&REGION) == -ENOMEM && !opened);
  fails = -1;
  larger.fast_bytes = SRAM + 1; /* has no room in the accelerator's memory: a buffer */
  EXPECT(try(&larger) == 0 && asked == all + 1);
  late = 1;
  EXPECT(try(&REGION) == -ETIME);
  printf("%d\n", all);
  return 0;
}
