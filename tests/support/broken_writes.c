/* Preloaded: the K-th thing that is written below a folder fails as on a full disk, and so does every later one, or ends
 * the process. Opening to create, making a folder or link, writing, growing, copying and flushing count; so do renames,
 * of which only the K-th fails, since a full disk still renames. Removing always works. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[4096];
static long fails_at;
static int killed;
static atomic_long count;

/* Begins to count what is written in folder ROOT; at 0 nothing fails. */
void broken_begin(const char *root, long at, int kills) {
  snprintf(below, sizeof below, "%s/", root);
  fails_at = at, killed = kills;
  count = 0;
}

/* Ends it; how much was counted. */
long broken_end(void) {
  below[0] = 0;
  return count;
}

static int inside(const char *path) { return below[0] && path && strncmp(path, below, strlen(below)) == 0; }

static int inside_fd(int fd) {
  char name[64], path[4096];
  if (!below[0]) return 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(name, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return inside(path);
}

/* Whether this one fails; `again` where all that follow fail too. */
static int strikes(int again) {
  const long now = atomic_fetch_add(&count, 1) + 1;
  if (!fails_at || (again && !killed ? now < fails_at : now != fails_at)) return 0;
  if (killed) kill(getpid(), SIGKILL);
  errno = ENOSPC;
  return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRITES(type, name, fd, parameters, ...)                                    \
  type name parameters {                                                           \
    return inside_fd(fd) && strikes(1) ? (type)-1 : REAL(name)(__VA_ARGS__); \
  }
#define NAMES(name, path, again, parameters, ...)                            \
  int name parameters { return inside(path) && strikes(again) ? -1 : REAL(name)(__VA_ARGS__); }
#define OPENS(name, ...)                                                            \
  {                                                                                 \
    mode_t mode = 0;                                                                \
    va_list more;                                                                   \
    va_start(more, flags);                                                          \
    if (flags & O_CREAT) mode = va_arg(more, mode_t);                               \
    va_end(more);                                                                   \
    if ((flags & (O_CREAT | O_TRUNC)) && inside(path) && strikes(1)) return -1;     \
    return REAL(name)(__VA_ARGS__, flags, mode);                                    \
  }

int open(const char *path, int flags, ...) OPENS(open, path)
int open64(const char *path, int flags, ...) OPENS(open64, path)
int openat(int at, const char *path, int flags, ...) OPENS(openat, at, path)
int openat64(int at, const char *path, int flags, ...) OPENS(openat64, at, path)

/* Half of it is there when the process ends. */
ssize_t write(int fd, const void *data, size_t bytes) {
  if (!inside_fd(fd)) return REAL(write)(fd, data, bytes);
  if (killed && count + 1 == fails_at) REAL(write)(fd, data, bytes / 2);
  return strikes(1) ? -1 : REAL(write)(fd, data, bytes);
}

WRITES(ssize_t, pwrite, fd, (int fd, const void *data, size_t bytes, off_t at), fd, data, bytes, at)
WRITES(ssize_t, pwrite64, fd, (int fd, const void *data, size_t bytes, off64_t at), fd, data, bytes, at)
WRITES(ssize_t, writev, fd, (int fd, const struct iovec *parts, int number), fd, parts, number)
WRITES(ssize_t, sendfile, out, (int out, int in, off_t *at, size_t bytes), out, in, at, bytes)
WRITES(ssize_t, sendfile64, out, (int out, int in, off64_t *at, size_t bytes), out, in, at, bytes)
WRITES(ssize_t, copy_file_range, out, (int in, off64_t *from, int out, off64_t *to, size_t bytes, unsigned flags), in,
       from, out, to, bytes, flags)
WRITES(int, posix_fallocate, fd, (int fd, off_t at, off_t bytes), fd, at, bytes)

static int grows(int fd, off64_t bytes) {
  struct stat status;
  return inside_fd(fd) && fstat(fd, &status) == 0 && bytes > status.st_size;
}

int ftruncate(int fd, off_t bytes) { return grows(fd, bytes) && strikes(1) ? -1 : REAL(ftruncate)(fd, bytes); }
int ftruncate64(int fd, off64_t bytes) { return grows(fd, bytes) && strikes(1) ? -1 : REAL(ftruncate64)(fd, bytes); }
WRITES(int, fsync, fd, (int fd), fd)
WRITES(int, fdatasync, fd, (int fd), fd)
NAMES(mkdir, path, 1, (const char *path, mode_t mode), path, mode)
NAMES(mkdirat, path, 1, (int at, const char *path, mode_t mode), at, path, mode)
NAMES(link, to, 1, (const char *from, const char *to), from, to)
NAMES(linkat, to, 1, (int a, const char *from, int b, const char *to, int flags), a, from, b, to, flags)
NAMES(symlink, to, 1, (const char *from, const char *to), from, to)
NAMES(rename, to, 0, (const char *from, const char *to), from, to)
NAMES(renameat, to, 0, (int a, const char *from, int b, const char *to), a, from, b, to)
NAMES(renameat2, to, 0, (int a, const char *from, int b, const char *to, unsigned flags), a, from, b, to, flags)
