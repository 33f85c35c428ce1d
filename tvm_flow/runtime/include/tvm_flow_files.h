/* A bundle whose files lie in no folder: in memory, within another file such as an Android package, or behind a reader.
 *
 *   static int find(void *user, const char *name, tvm_flow_file *out) {
 *     const entry *found = look_up(user, name);            // "steps.bin", "lib/snapdragon-a710/group0.so", ...
 *     if (!found) return 1;
 *     *out = (tvm_flow_file){.bytes = found->bytes, .descriptor = package, .offset = found->offset};
 *     return 0;
 *   }
 *   options.find = find, options.user = ...
 *
 * The first argument of tvm_flow_open is then a name for messages. What is read is checked as files of a folder are:
 * sizes before memory is taken, then hashes. Libraries and steps.bin are copied; weights and golden data are used where
 * they lie, if they lie on a multiple of 64 bytes, and copied where they do not or come from a reader.
 */
#ifndef TVM_FLOW_FILES_H
#define TVM_FLOW_FILES_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes bytes [offset, offset + bytes) of the file to `out`; non-zero where it cannot. On the thread that called. */
typedef int (*tvm_flow_read)(void *user, uint64_t offset, void *out, uint64_t bytes);

typedef struct {
  uint64_t bytes;     /* of the file */
  const void *data;   /* not NULL: its bytes, which stay as they are until the handle is closed */
  tvm_flow_read read; /* data is NULL, this is not: reads it; called until the function that asked for it returns */
  void *read_user;
  int descriptor;     /* both are NULL: a regular file, open for reading until that function returns; not moved in */
  uint64_t offset;    /* where the bundle's file begins in it */
} tvm_flow_file;

/* Fills *out, which is zeros, for the file `name` of the bundle; non-zero where there is none. Called by open and by
 * functions that read golden.bin (verify, tvm_flow_null_prompt), on the thread that called. */
typedef int (*tvm_flow_find)(void *user, const char *name, tvm_flow_file *out);

#ifdef __cplusplus
}
#endif
#endif
