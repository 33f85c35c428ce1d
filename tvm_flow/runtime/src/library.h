/* Loading a step group's library and checking its tables before anything trusts them. */
#ifndef TVM_FLOW_LOADING_H
#define TVM_FLOW_LOADING_H

#include "../include/tvm_flow_library.h"
#include "index.h"
#include "platform.h"

enum { FLOW_MAX_INPUTS = 3 };

/* What the functions of a bundle are: one row for each kind. */
typedef struct {
  char weights_file[20]; /* arrays: a pointer would be relocated */
  char takes[24];        /* for people: how many inputs, and which */
  char inputs[FLOW_MAX_INPUTS][16];
  uint32_t num_inputs;
  uint32_t branches; /* at most; each may have a PROMPT. 0: one run after the other, and no prologue */
} flow_kind;

extern const flow_kind flow_step_graph;
extern const flow_kind flow_decoder_graph;

/* A function of one bundle: its kind, and the sizes that its file states. */
typedef struct {
  const flow_kind *kind;
  const flow_host *host;
  const flow_index_group *groups; /* libraries, [num_groups] */
  uint32_t num_groups;
  uint32_t branches;    /* at least 1 */
  uint32_t step_floats; /* of a step record */
  uint64_t input_floats[FLOW_MAX_INPUTS];
  uint64_t output_floats;
  uint64_t weights_bytes; /* of the file */
  uint32_t weights_first; /* bytes of it before those that libraries name */
  const uint8_t *weights_sha256;
  uint64_t table_bytes;  /* that the handle holds already */
  uint64_t latent_bytes; /* that it will allocate itself */
} flow_signature;

/* The two runs of calls of the header. */
typedef enum { FLOW_PROLOGUE = 0, FLOW_STEP = 1 } flow_part;

flow_part flow_part_of(const tvm_flow_library_descriptor *descriptor, const tvm_flow_segment *segment);

typedef struct {
  flow_dl loaded; /* nothing when it is part of the program */
  const tvm_flow_library_descriptor *descriptor;
} flow_library;

/* Hashes the file and loads it, unless the options link the group in, and runs every check below. On failure nothing
 * is held. */
tvm_flow_status flow_library_open(const char *bundle_dir, const flow_signature *signature, uint32_t group,
                                  const tvm_flow_options *options, flow_library *out, tvm_flow_error *error);

void flow_library_close(flow_library *library);

/* Hashes the file of a group that is not linked in, then loads it. Compiled with TVM_FLOW_NO_DLOPEN it only fails, and
 * the runtime needs no dynamic loader. */
tvm_flow_status flow_load(const flow_host *host, const char *bundle_dir, const flow_index_group *group,
                          flow_library *out, tvm_flow_error *error);

/* What flow_load put into `loaded`, if anything. */
void flow_unload(flow_dl *loaded);

/* Tables against the spaces they name and the bundle's sizes: after this the plan can run without a check. */
tvm_flow_status flow_check_descriptor(const char *path, const tvm_flow_library_descriptor *descriptor,
                                      const flow_signature *signature, uint32_t group, tvm_flow_error *error);

/* Devices, segments and copies; the part of flow_check_descriptor that needs the other tables checked. */
tvm_flow_status flow_check_devices(const char *path, const tvm_flow_library_descriptor *descriptor,
                                   tvm_flow_error *error);
tvm_flow_status flow_check_segments(const char *path, const tvm_flow_library_descriptor *descriptor,
                                    const flow_host *host, tvm_flow_error *error);

/* "PATH: TABLE ROW: expected EXPECTED; compile the bundle again" */
tvm_flow_status flow_bad_table(const char *path, const char *table, uint64_t row, const char *expected,
                               tvm_flow_error *error);

/* A table of at most 2^20 rows behind its count. */
tvm_flow_status flow_check_table(const char *path, const char *table, uint32_t rows, const void *pointer,
                                 tvm_flow_error *error);

/* Every name in `features` must be reported by this processor; spellings of LLVM and of Linux are both known. */
tvm_flow_status flow_check_cpu(const char *path, const char *features, tvm_flow_error *error);

/* A whole ELF file of this machine's word size; the loader checks the rest. */
tvm_flow_status flow_check_elf(const char *path, const flow_map *file, tvm_flow_error *error);

/* Bytes of a checked tensor; 0 when its shape or type is impossible. */
uint64_t flow_tensor_bytes(const tvm_flow_tensor *tensor);

#endif
