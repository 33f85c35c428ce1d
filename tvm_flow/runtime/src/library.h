/* Loading a step group's library and checking its tables before anything trusts them. */
#ifndef TVM_FLOW_LOADING_H
#define TVM_FLOW_LOADING_H

#include "../include/tvm_flow_library.h"
#include "index.h"

enum { FLOW_GRAPH_INPUTS = 3 }; /* z, y and mask */

typedef struct {
  void *loaded; /* from dlopen; NULL when it is part of the program */
  const tvm_flow_library_descriptor *descriptor;
} flow_library;

/* Hashes the file and loads it, unless the options link the group in, and runs every check below. On failure nothing
 * is held. */
tvm_flow_status flow_library_open(const char *bundle_dir, const flow_index *index, uint32_t group,
                                  const tvm_flow_options *options, flow_library *out, tvm_flow_error *error);

void flow_library_close(flow_library *library);

/* Hashes the file of a group that is not linked in, then loads it. Compiled with TVM_FLOW_NO_DLOPEN it only fails, and
 * the runtime needs no dynamic loader. */
tvm_flow_status flow_load(const char *bundle_dir, const flow_index_group *group, flow_library *out,
                          tvm_flow_error *error);

/* What flow_load put into `loaded`; NULL is allowed. */
void flow_unload(void *loaded);

/* Tables against the spaces they name and the bundle's sizes: after this the plan can run without a check. */
tvm_flow_status flow_check_descriptor(const char *path, const tvm_flow_library_descriptor *descriptor,
                                      const flow_index *index, uint32_t group, tvm_flow_error *error);

/* Every name in `features` must be reported by this processor; spellings of LLVM and of Linux are both known. */
tvm_flow_status flow_check_cpu(const char *path, const char *features, tvm_flow_error *error);

/* A whole ELF file of this machine's word size; the loader checks the rest. */
tvm_flow_status flow_check_elf(const char *path, const flow_map *file, tvm_flow_error *error);

/* The loader gives an open library again for the same path, even when another file lies there by now: compares what is
 * in memory with the file that was hashed. */
tvm_flow_status flow_check_loaded(const char *path, const flow_map *file, const void *symbol, tvm_flow_error *error);

/* Bytes of a checked tensor; 0 when its shape or type is impossible. */
uint64_t flow_tensor_bytes(const tvm_flow_tensor *tensor);

#endif
