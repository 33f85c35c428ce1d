/* Linux and Android, with any C library. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "../include/tvm_flow_cause.h"
#include "platform.h"

void *flow_system_allocate(void *user, uint64_t bytes, uint64_t alignment) {
  void *memory;
  (void)user;
  return posix_memalign(&memory, (size_t)alignment, (size_t)bytes) == 0 ? memory : NULL;
}

void flow_system_release(void *user, void *memory) {
  (void)user;
  free(memory);
}

void flow_mutex_init(flow_mutex *mutex) { pthread_mutex_init(mutex, NULL); }
void flow_mutex_destroy(flow_mutex *mutex) { pthread_mutex_destroy(mutex); }
void flow_mutex_lock(flow_mutex *mutex) { pthread_mutex_lock(mutex); }
void flow_mutex_unlock(flow_mutex *mutex) { pthread_mutex_unlock(mutex); }
void flow_condition_init(flow_condition *condition) { pthread_cond_init(condition, NULL); }
void flow_condition_destroy(flow_condition *condition) { pthread_cond_destroy(condition); }
void flow_condition_wait(flow_condition *condition, flow_mutex *mutex) { pthread_cond_wait(condition, mutex); }
void flow_condition_broadcast(flow_condition *condition) { pthread_cond_broadcast(condition); }

/* A new thread has its creator's mask. */
int flow_thread_start(flow_thread *thread, void *(*run)(void *argument), void *argument) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(thread, NULL, run, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failed;
}

void flow_thread_join(flow_thread thread) { pthread_join(thread, NULL); }
void flow_thread_yield(void) { sched_yield(); }

uint64_t flow_process(void) { return (uint64_t)getpid(); }

uint64_t flow_clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int flow_get_cpus(flow_cpu_set *out) { return sched_getaffinity(0, sizeof *out, out); }
int flow_set_cpus(const flow_cpu_set *cpus) { return sched_setaffinity(0, sizeof *cpus, cpus); }

/* Leaves `offset` alone. */
static const char *look_at(int fd, flow_system_file *out) {
  struct stat status;
  struct statvfs system;
  if (fstat(fd, &status) != 0 || fstatvfs(fd, &system) != 0) return strerror(errno);
  out->cause = S_ISREG(status.st_mode) ? TVM_FLOW_CAUSE_NONE : TVM_FLOW_CAUSE_DEVICE;
  if (out->cause) return "no regular file";
  out->descriptor = fd;
  out->runs = !(system.f_flag & ST_NOEXEC);
  out->bytes = (uint64_t)status.st_size;
  return out->bytes > SIZE_MAX ? strerror(EFBIG) : NULL;
}

const char *flow_system_adopt(flow_system_file *file) {
  flow_system_file whole = *file;
  const char *wrong = look_at(file->descriptor, &whole);
  file->cause = whole.cause;
  if (wrong) return wrong;
  file->runs = whole.runs;
  if (file->offset <= whole.bytes && file->bytes <= whole.bytes - file->offset) return NULL;
  file->cause = TVM_FLOW_CAUSE_TRUNCATED;
  return "a part beyond its end";
}

/* Not blocking: a fifo would wait for its writer. */
const char *flow_system_open(const char *path, int follow, flow_system_file *out) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (follow ? 0 : O_NOFOLLOW));
  *out = (flow_system_file){0};
  if (fd < 0) {
    const int link = errno == ELOOP && !follow;
    out->cause = link              ? TVM_FLOW_CAUSE_LINK
                 : errno == ENOENT ? TVM_FLOW_CAUSE_ABSENT
                 : errno == ENXIO  ? TVM_FLOW_CAUSE_DEVICE /* a socket */
                                   : TVM_FLOW_CAUSE_NONE;
    return link ? "a link" : strerror(errno);
  }
  const char *wrong = look_at(fd, out);
  if (wrong) close(fd);
  return wrong;
}

void flow_system_close(const flow_system_file *file) { close(file->descriptor); }

static uintptr_t page_bytes(void) { return (uintptr_t)sysconf(_SC_PAGESIZE); }

const char *flow_system_map(const flow_system_file *file, const uint8_t **data) {
  *data = NULL;
  if (file->bytes == 0) return NULL;
  const uint64_t before = file->offset % page_bytes();
  const off_t at = (off_t)(file->offset - before);
  void *mapped = mmap(NULL, (size_t)(file->bytes + before), PROT_READ, MAP_PRIVATE, file->descriptor, at);
  if (mapped == MAP_FAILED) return strerror(errno);
  *data = (const uint8_t *)mapped + before;
  return NULL;
}

void flow_system_drop(const void *memory, uint64_t bytes) {
  const uintptr_t page = page_bytes(), begin = ((uintptr_t)memory + page - 1) / page * page;
  const uintptr_t end = ((uintptr_t)memory + (uintptr_t)bytes) / page * page;
  if (begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* A map begins with a page. */
void flow_system_unmap(const uint8_t *data, uint64_t bytes) {
  const uintptr_t before = (uintptr_t)data % page_bytes();
  munmap((void *)((uintptr_t)data - before), (size_t)(bytes + before));
}

const char *flow_system_read(const flow_system_file *file, uint8_t *out) {
  for (uint64_t at = 0; at < file->bytes;) {
    ssize_t got = pread(file->descriptor, out + at, (size_t)(file->bytes - at), (off_t)(file->offset + at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0 ? strerror(errno) : "fewer bytes than a moment ago";
    at += (uint64_t)got;
  }
  return NULL;
}
