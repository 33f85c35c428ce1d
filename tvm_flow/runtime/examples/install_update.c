/* install_update NEW INTO MODEL KEY: puts the bundle NEW in the place of INTO, as an update in the field does.
 *
 *   check     NEW is signed by KEY (64 hexadecimal digits) as MODEL, and no older than INTO, where that is signed so
 *   try       its golden inputs give their outputs here, while programs still find the old one
 *   sync      its files and folders to disk
 *   exchange  the two names, in one step; the old one, which is under NEW then, is removed
 *
 * Killed or without power before the exchange, INTO is the old bundle, whole, after it the new one. Where the file
 * system cannot exchange, INTO becomes .INTO.old beside it and NEW becomes INTO: between these two nothing is there,
 * and the next run begins by putting .INTO.old back. Who has the old one open keeps what he opened.
 *
 * NEW is where the update was fetched to, on INTO's file system. It is used up: fetch it again after a run that was
 * killed. A product has MODEL and its keys in the program. What C does not read (manifest.json, headers, archives) is
 * not checked: leave it at home, or run `tvm-flow verify` there. */
#define _GNU_SOURCE 1 /* as -D_GNU_SOURCE has it: nftw, syscall; bring.h */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bring.h"
#include "tvm_flow_decoder.h"
#include "tvm_flow_memory.h"
#include "tvm_flow_signature.h"

enum { MOST = 4096, OPEN_FOLDERS = 16, EXCHANGE = 2 /* RENAME_EXCHANGE of <linux/fs.h> */ };

static int fail(const char *what, const char *why) { return fprintf(stderr, "%s: %s\n", what, why), 1; }

static int read_key(const char *text, uint8_t key[32]) {
  if (strlen(text) != 64 || strspn(text, "0123456789abcdefABCDEF") != 64) return 0;
  for (int i = 0; i < 32; i++) {
    unsigned byte = 0;
    sscanf(text + 2 * i, "%2x", &byte);
    key[i] = (uint8_t)byte;
  }
  return 1;
}

static int has(const char *bundle, const char *name) {
  char path[MOST];
  return snprintf(path, sizeof path, "%s/%s", bundle, name) < MOST && access(path, F_OK) == 0;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place) {
  return (void)status, (void)kind, (void)place, remove(path);
}

/* A folder with all that is in it, or nothing where there is none; no link is followed. */
static int remove_all(const char *folder) {
  if (nftw(folder, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT) return 0;
  return fail(folder, strerror(errno));
}

static int sync_one(const char *path, const struct stat *status, int kind, struct FTW *place) {
  (void)kind, (void)place;
  if (!S_ISREG(status->st_mode) && !S_ISDIR(status->st_mode)) return 0;
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (file < 0) return 1;
  const int failed = fsync(file);
  return close(file) | failed;
}

/* Ends what a run that was killed began: INTO is whole after that, and alone. What is beside no bundle is not ours. */
static int recover(const char *into, const char *old) {
  struct stat status;
  if (lstat(into, &status) == 0) return S_ISDIR(status.st_mode) && has(into, "steps.bin") ? remove_all(old) : 0;
  if (lstat(old, &status)) return errno == ENOENT ? 0 : fail(old, strerror(errno));
  if (!has(old, "steps.bin")) return fail(old, "expected the bundle that was replaced, or nothing; move it away");
  return rename(old, into) ? fail(old, strerror(errno)) : 0;
}

/* The old one is under one of the other names then. */
static int put(const char *new, const char *into, const char *old) {
  if (syscall(SYS_renameat2, AT_FDCWD, new, AT_FDCWD, into, EXCHANGE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS && errno != ENOENT) return fail(into, strerror(errno));
  if (rename(into, old) && errno != ENOENT) return fail(into, strerror(errno)); /* none there: a first installation */
  if (rename(new, into) == 0) return 0;
  fail(new, strerror(errno));
  rename(old, into);
  return 1;
}

/* Steps, and the decoder where one is expected. */
static int computes_here(const char *bundle, const tvm_flow_options *options, int decodes, tvm_flow_error *error) {
  tvm_flow *flow;
  tvm_flow_decoder *decoder;
  if (tvm_flow_open(bundle, options, &flow, error)) return 0;
  int good = tvm_flow_verify(flow, error) == TVM_FLOW_OK;
  tvm_flow_close(flow);
  if (!good || !decodes) return good;
  if (tvm_flow_decoder_open(bundle, options, &decoder, error)) return 0;
  good = tvm_flow_decoder_verify(decoder, error) == TVM_FLOW_OK;
  tvm_flow_decoder_close(decoder);
  return good;
}

static int install(const char *new, const char *into, const char *old, tvm_flow_trust *trust, int parent) {
  tvm_flow_options options = {.struct_bytes = sizeof options};
  tvm_flow_memory memory;
  tvm_flow_error error;
  bring(&options);
  options.accept = tvm_flow_check_signature, options.accept_user = trust;
  if (access(into, F_OK) == 0) tvm_flow_plan(into, &options, &memory, NULL);
  trust->least = trust->version; /* 0 where a key that is not trusted signed it, or nobody */
  const int decodes = has(new, "decoder.bin") || has(into, "decoder.bin");
  if (!computes_here(new, &options, decodes, &error)) return fail(new, error.message);
  if (nftw(new, sync_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS)) return fail(new, strerror(errno));
  if (put(new, into, old)) return 1;
  if (fsync(parent)) return fail(into, strerror(errno));
  printf("installed: %s, version %llu; it gave its golden output here\n", into, (unsigned long long)trust->version);
  return remove_all(new) | remove_all(old);
}

/* What would be removed must be a bundle, and not the new one. */
static int may_replace(const char *new, const char *into) {
  struct stat one, other;
  if (lstat(new, &one) || !S_ISDIR(one.st_mode)) return fail(new, "expected a folder with a bundle"), 0;
  if (lstat(into, &other)) return errno == ENOENT || (fail(into, strerror(errno)), 0);
  if (!S_ISDIR(other.st_mode) || !has(into, "steps.bin"))
    return fail(into, "expected a folder with a bundle, or nothing; name another place"), 0;
  if (one.st_dev == other.st_dev && one.st_ino == other.st_ino)
    return fail(into, "expected another place than NEW"), 0;
  return 1;
}

int main(int argc, char **argv) {
  static uint8_t key[1][32];
  char old[MOST], folder[MOST];
  if (argc != 5) return fputs("usage: install_update NEW INTO MODEL KEY\n", stderr), 2;
  char *new = argv[1], *into = argv[2];
  for (size_t n = strlen(into); n > 1 && into[n - 1] == '/'; n--) into[n - 1] = 0;
  if (!read_key(argv[4], key[0])) return fail("KEY", "expected 64 hexadecimal digits, as tvm-flow sign --new-key has");
  const char *slash = strrchr(into, '/'), *name = slash ? slash + 1 : into;
  snprintf(folder, sizeof folder, "%.*s", slash ? (int)(name - into) : 2, slash ? into : "./");
  if (snprintf(old, sizeof old, "%s.%s.old", folder, name) >= MOST) return fail(into, "expected a shorter path");
  const int parent = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0 || flock(parent, LOCK_EX | LOCK_NB)) /* until it ends, however it ends */
    return fail(into, errno == EWOULDBLOCK ? "another update of this folder is running" : strerror(errno));
  if (recover(into, old) || !may_replace(new, into)) return 1;
  tvm_flow_trust trust = {.struct_bytes = sizeof trust, .num_keys = 1, .keys = key, .model = argv[3]};
  return install(new, into, old, &trust, parent);
}
