/* Linked into a program with --wrap=rename,remove,fsync,syscall: it dies by SIGKILL before its DIE_BEFORE-th change of a
 * folder or sync, and on a file system that cannot exchange two names where TWO_RENAMES is set. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int __real_rename(const char *from, const char *to);
int __real_remove(const char *path);
int __real_fsync(int file);
long __real_syscall(long number, ...);

static void change(void) {
  static int changes;
  const char *last = getenv("DIE_BEFORE");
  if (last && ++changes == atoi(last)) kill(getpid(), SIGKILL);
}

int __wrap_rename(const char *from, const char *to) { return change(), __real_rename(from, to); }
int __wrap_remove(const char *path) { return change(), __real_remove(path); }
int __wrap_fsync(int file) { return change(), __real_fsync(file); }

long __wrap_syscall(long number, ...) {
  long given[6];
  va_list arguments;
  va_start(arguments, number);
  for (int i = 0; i < 6; i++) given[i] = va_arg(arguments, long);
  va_end(arguments);
  if (number == SYS_renameat2) {
    change();
    if (getenv("TWO_RENAMES")) return errno = EINVAL, -1;
  }
  return __real_syscall(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
