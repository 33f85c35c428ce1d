/* The step groups of one bundle as part of a program, for systems without a dynamic loader.
 *
 *   const tvm_flow_options options = {.struct_bytes = sizeof options,
 *                                     .num_linked = tvm_flow_num_linked_groups,
 *                                     .linked = tvm_flow_linked_groups};
 *
 * libtvm_flow_groups.a, which `tvm-flow compile --emit static` writes into a bundle, defines both. They are constant
 * and may be read from any thread. A program can hold the groups of one bundle, and opens it as often as it likes; a
 * bundle of another build is refused by tvm_flow_open.
 *
 * libtvm_flow.a holds structures of one C library. A program that includes this header with another one's headers does
 * not link: tvm_flow_built_for_gnu, or another name, is undefined. Take the archive from the folder of that name.
 */
#ifndef TVM_FLOW_GROUPS_H
#define TVM_FLOW_GROUPS_H

#include "tvm_flow.h"
#include "tvm_flow_libc.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const tvm_flow_linked tvm_flow_linked_groups[];
extern const uint32_t tvm_flow_num_linked_groups;

#if defined(__GNUC__) && !defined(TVM_FLOW_ANY_LIBC)
__attribute__((used)) static const char *const tvm_flow_needs_c_library = &TVM_FLOW_BUILT_FOR;
#endif

#ifdef __cplusplus
}
#endif
#endif
