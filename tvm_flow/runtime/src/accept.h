/* Asking the program whether a bundle may be opened. */
#ifndef TVM_FLOW_ACCEPTING_H
#define TVM_FLOW_ACCEPTING_H

#include "file.h"

/* Of `file`, which lies in `map` as a copy; OK where options.accept is NULL. */
tvm_flow_status flow_accept(const flow_host *host, const char *bundle_dir, const char *file, const flow_map *map,
                            tvm_flow_error *error);

#endif
