/* Libraries from memory, on Linux 3.17 and later and on Android. */
#include "platform.h"

#ifndef TVM_FLOW_NO_DLOPEN

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *fill(int fd, const uint8_t *data, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes;) {
    ssize_t put = write(fd, data + at, (size_t)(bytes - at));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return strerror(put < 0 ? errno : EIO);
    at += (uint64_t)put;
  }
  /* Another process of this user could open it by way of /proc. */
  const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  return fcntl(fd, F_ADD_SEALS, seals) == 0 ? NULL : strerror(errno);
}

/* Not memfd_create: older C libraries lack it. */
const char *flow_dl_open(const char *name, const uint8_t *data, uint64_t bytes, flow_dl *out) {
  char path[32];
  int fd = (int)syscall(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return strerror(errno);
  const char *wrong = fill(fd, data, bytes);
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  *out = (flow_dl){.handle = wrong ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL), .descriptor = fd};
  if (out->handle) return NULL;
  close(fd);
  return wrong ? wrong : dlerror();
}

const void *flow_dl_find(const flow_dl *library, const char *symbol) { return dlsym(library->handle, symbol); }

/* The descriptor last: the loader knows a library by its path, and gives it again for the same one. */
void flow_dl_close(flow_dl *library) {
  if (!library->handle) return;
  dlclose(library->handle);
  close(library->descriptor);
  *library = (flow_dl){0};
}

#endif
