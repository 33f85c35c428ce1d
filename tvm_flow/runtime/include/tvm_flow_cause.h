/* Why a bundle, a file or a call was refused: one list for C and Python (tvm_flow.causes), finer than the status.
 *
 *   if (tvm_flow_open("model.bundle", NULL, &flow, &error) && tvm_flow_cause_of(&error) == TVM_FLOW_CAUSE_TRUNCATED)
 *     fetch_it_again();
 */
#ifndef TVM_FLOW_CAUSE_H
#define TVM_FLOW_CAUSE_H

#include "tvm_flow_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  TVM_FLOW_CAUSE_NONE = 0,                /* the status and the message say it all */
  TVM_FLOW_CAUSE_ABSENT = 1,              /* a file is not there */
  TVM_FLOW_CAUSE_TRUNCATED = 2,           /* a file is shorter than the bundle says */
  TVM_FLOW_CAUSE_CHANGED = 3,             /* other bytes than those that were hashed, more of them, or more files */
  TVM_FLOW_CAUSE_WRONG_ARCHITECTURE = 4,  /* a library for another processor */
  TVM_FLOW_CAUSE_MISSING_FEATURE = 5,     /* this processor lacks a feature, or the program a device */
  TVM_FLOW_CAUSE_WRONG_VERSION = 6,       /* a schema or library ABI that is not read; older than accepted */
  TVM_FLOW_CAUSE_FOREIGN_WEIGHTS = 7,     /* whole, but of another bundle */
  TVM_FLOW_CAUSE_WRONG_STEP_TABLE = 8,    /* steps.bin, decoder.bin and what they tell of do not belong together */
  TVM_FLOW_CAUSE_OUTSIDE = 9,             /* a path that leaves the bundle */
  TVM_FLOW_CAUSE_LINK = 10,               /* a symbolic link in place of a file */
  TVM_FLOW_CAUSE_DEVICE = 11,             /* a FIFO, device, socket or folder in place of a file */
  TVM_FLOW_CAUSE_DUPLICATE_NAME = 12,     /* names that are equal, or equal but for their case */
  TVM_FLOW_CAUSE_SIZE_OVERFLOW = 13,      /* a size beyond what any bundle may have */
  TVM_FLOW_CAUSE_NOT_FINITE = 14,         /* a scale, table, latent or frame holds NaN or an infinity */
  TVM_FLOW_CAUSE_BAD_SIGNATURE = 15,      /* none, changed, or by a key that this program does not trust */
  TVM_FLOW_CAUSE_BUSY = 16,               /* another call runs on the handle */
  TVM_FLOW_CAUSE_NOEXEC = 17              /* the file system lets no program run */
} tvm_flow_cause;

/* The cause of the failure that filled *error; any thread. It travels in the last four bytes of the message, behind its
 * text: a copy of the structure keeps it. Errors that a device filled have what their status says; NULL has none. */
TVM_FLOW_API tvm_flow_cause tvm_flow_cause_of(const tvm_flow_error *error);

#ifdef __cplusplus
}
#endif
#endif
