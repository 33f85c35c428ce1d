/* What the other headers share: how functions are exported, and the callbacks by which a program lends a handle memory
 * and hears what it has to say. */
#ifndef TVM_FLOW_BASE_H
#define TVM_FLOW_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TVM_FLOW_API __attribute__((visibility("default")))
#else
#define TVM_FLOW_API
#endif

#define TVM_FLOW_VERSION 0x000100u /* of these headers: major, minor, patch, a byte each */

/* TVM_FLOW_VERSION of the runtime. Within a major version structures grow at their ends only: a program runs with a
 * runtime of its own minor version or a later one. */
TVM_FLOW_API uint32_t tvm_flow_version(void);

/* Memory whose address `alignment` divides, a power of two from 8 to 4096; NULL when there is none. Called by open,
 * verify and close, by kernels for workspace, and by a trace; with a handle's threads, several at once. */
typedef void *(*tvm_flow_allocate)(void *user, uint64_t bytes, uint64_t alignment);

/* Takes back what allocate gave; never NULL. */
typedef void (*tvm_flow_release)(void *user, void *memory);

/* A line for people from a kernel or a device; levels are in tvm_flow_library.h. The text is valid during the call. On
 * any thread of the handle. */
typedef void (*tvm_flow_log)(void *user, uint32_t level, const char *message);

#ifdef __cplusplus
}
#endif
#endif
