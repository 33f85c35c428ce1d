/* What the other headers share: how functions are exported, how they fail, and the callbacks by which a program lends a
 * handle memory and hears what it has to say. */
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

typedef enum {
  TVM_FLOW_OK = 0,
  TVM_FLOW_INVALID_ARGUMENT = 1, /* a null pointer, a step or branch out of range */
  TVM_FLOW_FILE_ERROR = 2,       /* a file is absent or unreadable */
  TVM_FLOW_CORRUPT = 3,          /* a file's size, hash or content contradicts itself */
  TVM_FLOW_WRONG_SCHEMA = 4,     /* a bundle of another format version */
  TVM_FLOW_WRONG_ABI = 5,        /* a library of another descriptor version */
  TVM_FLOW_BAD_LIBRARY = 6, /* not loaded, tables that reach outside their space, or linked in from another build */
  TVM_FLOW_WRONG_CPU = 7,        /* this processor lacks a feature that the kernels use */
  TVM_FLOW_NO_MEMORY = 8, TVM_FLOW_NO_THREAD = 9,
  TVM_FLOW_KERNEL_FAILED = 10, /* a kernel returned an error; the message is its own */
  TVM_FLOW_CANCELLED = 11,     /* a callback or tvm_flow_cancel (tvm_flow_control.h) asked to stop */
  TVM_FLOW_NOT_GOLDEN = 12,    /* the golden input did not give the golden output */
  TVM_FLOW_NO_DEVICE = 13,     /* a library's plan needs a device that options.devices does not have */
  TVM_FLOW_BUSY = 14,          /* another function runs on the handle: on another thread, or around a callback */
  TVM_FLOW_NOT_FINITE = 15,    /* noise, latents, a prediction or frames hold NaN or infinity; the message says where */
  TVM_FLOW_FORKED = 16,        /* the handle belongs to the process that forked this one */
  TVM_FLOW_NOT_SIGNED = 17,    /* no signature, where one is asked for (tvm_flow_signature.h) */
  TVM_FLOW_BAD_SIGNATURE = 18, /* it is not of this bundle, or not by its key */
  TVM_FLOW_UNKNOWN_KEY = 19,   /* by a key that is not trusted */
  TVM_FLOW_OLDER_VERSION = 20  /* of a version below the least that is accepted */
} tvm_flow_status;

/* The caller's; may be NULL. Written on failure only: which thing, expected, found, what to do next; one line.
 * What is too long loses its middle; control characters are question marks. */
typedef struct { tvm_flow_status status; char message[508]; } tvm_flow_error;

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
