/* The C library that something is compiled for, as the name of a symbol: the runtime defines it, and what was compiled
 * with another one's headers asks for a name that is not there. Included by tvm_flow_groups.h. */
#ifndef TVM_FLOW_LIBC_H
#define TVM_FLOW_LIBC_H

#include "tvm_flow.h"

#if defined(__UCLIBC__)
#define TVM_FLOW_BUILT_FOR tvm_flow_built_for_uclibc
#elif defined(__BIONIC__)
#define TVM_FLOW_BUILT_FOR tvm_flow_built_for_bionic
#elif defined(__GLIBC__)
#define TVM_FLOW_BUILT_FOR tvm_flow_built_for_gnu
#elif defined(__linux__)
#define TVM_FLOW_BUILT_FOR tvm_flow_built_for_musl /* which has no macro of its own */
#else
#define TVM_FLOW_BUILT_FOR tvm_flow_built_for_another
#endif

#ifdef __cplusplus
extern "C" {
#endif

TVM_FLOW_API extern const char TVM_FLOW_BUILT_FOR;

#ifdef __cplusplus
}
#endif
#endif
