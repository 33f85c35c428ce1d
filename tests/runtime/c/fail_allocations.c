/* Opens a bundle with the first allocation failing, then the second, and so on until none does: each time an error
 * and nothing held. Then the same for every call that opens, looks at, reads, writes or seals a file. Linked with
 * --wrap, so that only the runtime's own calls come here. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef TOY_DEVICE
#include "toy_device.h"
#define DEVICES .num_devices = TOY_DEVICES, .devices = toy_devices
#else
#include "tvm_flow.h"
#define DEVICES .num_devices = 0
#endif

static long left;

static int lending;  /* the options bring an allocator, so nothing may ask the system */
static atomic_long asked, held;

static int files; /* refuse these calls, and no allocation */
static int refuse(void) { return !files && left-- == 0; }
static int refuse_of_system(void) { return lending ? (asked++, 0) : refuse(); }

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
int __real_posix_memalign(void **memory, size_t alignment, size_t bytes);
char *__real_strdup(const char *text);
void *__real_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

void *__wrap_malloc(size_t bytes) { return refuse_of_system() ? NULL : __real_malloc(bytes); }
void *__wrap_calloc(size_t count, size_t bytes) { return refuse_of_system() ? NULL : __real_calloc(count, bytes); }
int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes) {
  return refuse_of_system() ? 12 : __real_posix_memalign(memory, alignment, bytes);
}
char *__wrap_strdup(const char *text) { return refuse_of_system() ? NULL : __real_strdup(text); }
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
  return !lending && refuse() ? MAP_FAILED : __real_mmap(at, bytes, protection, flags, fd, offset);
}
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
  return !lending && refuse() ? 11 : __real_pthread_create(thread, attributes, start, argument);
}

static int refuse_file(int number) { return files && left-- == 0 ? (errno = number, 1) : 0; }

#define FILE_CALL(result, name, number, parameters, arguments) \
  result __real_##name parameters;                             \
  result __wrap_##name parameters;                             \
  result __wrap_##name parameters { return refuse_file(number) ? -1 : __real_##name arguments; }
struct stat;
struct statvfs;
FILE_CALL(int, open, EMFILE, (const char *path, int flags), (path, flags))
FILE_CALL(int, fstat, EIO, (int fd, struct stat *status), (fd, status))
FILE_CALL(int, fstatvfs, EIO, (int fd, struct statvfs *status), (fd, status))
FILE_CALL(ssize_t, pread, EIO, (int fd, void *out, size_t bytes, off_t at), (fd, out, bytes, at))
FILE_CALL(ssize_t, write, ENOSPC, (int fd, const void *data, size_t bytes), (fd, data, bytes))
FILE_CALL(int, fcntl, EPERM, (int fd, int command, int argument), (fd, command, argument))

static void *lend(void *user, uint64_t bytes, uint64_t alignment) {
  void *memory = NULL;
  if (user != &held || alignment < 8 || refuse()) return NULL;
  if (__real_posix_memalign(&memory, (size_t)alignment, (size_t)bytes) == 0) held++;
  return memory;
}

static void take_back(void *user, void *memory) {
  held -= user == &held && memory != NULL;
  free(memory);
}

static int is_shortage(tvm_flow_status status, const char *message) {
  if (files && status == TVM_FLOW_BAD_LIBRARY) return strstr(message, "could not load: ") != NULL;
  if (status == TVM_FLOW_KERNEL_FAILED) return strstr(message, "MemoryError: ") != NULL;
  return status == TVM_FLOW_NO_MEMORY || status == TVM_FLOW_NO_THREAD || status == TVM_FLOW_FILE_ERROR;
}

static tvm_flow_status attempt(const char *bundle, int verify, tvm_flow_error *error) {
  const tvm_flow_options options = {.struct_bytes = sizeof options, .threads = 3, DEVICES,
                                    .allocate = lending ? lend : NULL, .release = lending ? take_back : NULL,
                                    .user = &held};
  tvm_flow *flow;
  long spare = left;
  if (verify) left = -1;
  tvm_flow_status status = tvm_flow_open(bundle, &options, &flow, error);
  if (status) return flow == NULL ? status : TVM_FLOW_OK - 1;
  if (verify) left = spare, status = tvm_flow_verify(flow, error);
  left = -1;
  tvm_flow_close(flow);
  return status;
}

static int fail_each(const char *bundle, int verify) {
  for (long failures = 0;; failures++) {
    tvm_flow_error error = {TVM_FLOW_OK, ""};
    left = failures;
    tvm_flow_status status = attempt(bundle, verify, &error);
    if (held || asked) return fprintf(stderr, "%ld: %ld held, system asked %ld times\n", failures, held, asked), 1;
    if (status == TVM_FLOW_OK)
      return printf("%s%s %ld\n", files ? "files-" : lending ? "lent-" : "", verify ? "verify" : "open", failures) < 0;
    if (!is_shortage(status, error.message) || error.status != status || strlen(error.message) < 10)
      return fprintf(stderr, "allocation %ld: status %d: %s\n", failures, (int)status, error.message), 1;
  }
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  for (lending = 0; lending < 2; lending++)
    for (int verify = 0; verify < 2; verify++)
      if (fail_each(argv[1], verify)) return 1;
  lending = 0;
  for (files = 1; files < 3; files++)
    if (fail_each(argv[1], files == 2)) return 1;
  return 0;
}
