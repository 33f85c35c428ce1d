/* The step groups of one bundle as part of a program, for systems without a dynamic loader.
 *
 *   const tvm_flow_options options = {.struct_bytes = sizeof options,
 *                                     .num_linked = tvm_flow_num_linked_groups,
 *                                     .linked = tvm_flow_linked_groups};
 *
 * libtvm_flow_groups.a, which `tvm-flow compile --emit static` writes into a bundle, defines both. They are constant
 * and may be read from any thread. A program can hold the groups of one bundle, and opens it as often as it likes; a
 * bundle of another build is refused by tvm_flow_open.
 */
#ifndef TVM_FLOW_GROUPS_H
#define TVM_FLOW_GROUPS_H

#include "tvm_flow.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const tvm_flow_linked tvm_flow_linked_groups[];
extern const uint32_t tvm_flow_num_linked_groups;

#ifdef __cplusplus
}
#endif
#endif
