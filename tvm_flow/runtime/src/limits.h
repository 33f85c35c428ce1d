#ifndef FLOW_LIMITS_H
#define FLOW_LIMITS_H

/* What a bundle may hold at most. This file is the only statement of these limits: tvm_flow/limits.py reads it. */

#define FLOW_MAX_STEPS 65536
#define FLOW_MAX_ELEMENTS 268435456        /* of a latent, of a prompt's tokens, and of any of their axes */
#define FLOW_MAX_FRAME_ELEMENTS 1073741824 /* of what a decoder reads or writes at a time */
#define FLOW_MAX_CFG_SCALE 100             /* beyond it is a damaged number, not a choice: samplers use 1 to 15 */
#define FLOW_MAX_INDEX_BYTES 2147483648    /* of steps.bin: 1000 steps of the largest model are under 1 GB */
#define FLOW_MAX_LIBRARY_BYTES 268435456   /* of a library; the largest seen is under 1 MB */

#endif
