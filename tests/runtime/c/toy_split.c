/* The toy group over three devices: "other" runs the prologue, the CPU the first half of the step, "toy" the second.
 *
 *   y, mask -> other: context -> toy (PROMPT)      z -> cpu: h -> toy: v -> cpu
 *
 * Their payload is a table of kernels. Macros damage one number each, for the tests. */
#define TOY_TABLES
#include "toy_group.c"

#ifndef SPLIT_DEVICES
#define SPLIT_DEVICES 3
#endif
#ifndef SPLIT_SEGMENTS
#define SPLIT_SEGMENTS 5
#endif
#ifndef SPLIT_COPIES
#define SPLIT_COPIES 5
#endif
#ifndef SPLIT_DEVICE_TABLE
#define SPLIT_DEVICE_TABLE devices
#endif
#ifndef SPLIT_SEGMENT_TABLE
#define SPLIT_SEGMENT_TABLE segments
#endif
#ifndef SPLIT_COPY_TABLE
#define SPLIT_COPY_TABLE copies
#endif
#ifndef SPLIT_CPU_NAME
#define SPLIT_CPU_NAME "cpu"
#endif
#ifndef SPLIT_CPU_ARENA
#define SPLIT_CPU_ARENA 576
#endif
#ifndef SPLIT_TOY_NAME
#define SPLIT_TOY_NAME "toy"
#endif
#ifndef SPLIT_TOY_ARENA
#define SPLIT_TOY_ARENA 256
#endif
#ifndef SPLIT_TOY_PROMPT
#define SPLIT_TOY_PROMPT 80
#endif
#ifndef SPLIT_OTHER_ARENA
#define SPLIT_OTHER_ARENA 112
#endif
#ifndef SPLIT_H_DEVICE
#define SPLIT_H_DEVICE 1
#endif
#ifndef SPLIT_Z_DEVICE
#define SPLIT_Z_DEVICE 0
#endif
#ifndef SPLIT_V_DEVICE
#define SPLIT_V_DEVICE 0
#endif
#ifndef SPLIT_H_BITS
#define SPLIT_H_BITS 32
#endif
#ifndef SPLIT_H_EXTENT
#define SPLIT_H_EXTENT 4
#endif
#ifndef SPLIT_BORDER
#define SPLIT_BORDER 1 /* calls of the first segment */
#endif
#ifndef SPLIT_STEP_CALL
#define SPLIT_STEP_CALL 2 /* where the segment of "toy" begins */
#endif
#ifndef SPLIT_STEP_CALLS
#define SPLIT_STEP_CALLS 1
#endif
#ifndef SPLIT_STEP_DEVICE
#define SPLIT_STEP_DEVICE 1
#endif
#ifndef SPLIT_FIRST_COPY
#define SPLIT_FIRST_COPY 3
#endif
#ifndef SPLIT_COPY_COUNT
#define SPLIT_COPY_COUNT 1
#endif
#ifndef SPLIT_COPY_FROM
#define SPLIT_COPY_FROM 5
#endif
#ifndef SPLIT_COPY_TO
#define SPLIT_COPY_TO 13
#endif
#ifndef SPLIT_PAYLOAD
#define SPLIT_PAYLOAD kernels
#endif
#ifndef SPLIT_CPU_KERNEL
#define SPLIT_CPU_KERNEL toy_modulate
#endif

static const tvm_flow_tensor split_tensors[] = {
    {TVM_FLOW_ARENA, F32, 4, SPLIT_Z_DEVICE, 0, {4, 2, 2, 2}},   /* 0 z */
    {TVM_FLOW_ARENA, F32, 2, 0, 256, {3, 4}},                    /* 1 y, where the step puts h */
    {TVM_FLOW_ARENA, F32, 4, 0, 192, {1, 1, 1, 3}},              /* 2 mask */
    {TVM_FLOW_STEP, F32, 4, 0, 0, {4, 2, 2, 2}},                 /* 3 act */
    {TVM_FLOW_STEP, F32, 4, 0, 128, {4, 2, 2, 2}},               /* 4 mod */
    {TVM_FLOW_ARENA, 0, 32, 4, 0, 256, {4, 2, 2, 2}},            /* 5 h */
    {TVM_FLOW_ARENA, F32, 4, SPLIT_V_DEVICE, 448, {4, 2, 2, 2}}, /* 6 v */
    {TVM_FLOW_ARENA, F32, 2, 2, 64, {3, 4}},                     /* 7 y of other */
    {TVM_FLOW_ARENA, F32, 4, 2, 0, {1, 1, 1, 3}},                /* 8 mask of other */
    {TVM_FLOW_STEP, F32, 1, 2, 384, {4}},                        /* 9 context scale */
    {TVM_FLOW_PROMPT, F32, 1, 2, 0, {4}},                        /* 10 context of other */
    {TVM_FLOW_PROMPT, F32, 1, 1, 64, {4}},                       /* 11 context of toy */
    {TVM_FLOW_STEP, F32, 4, 1, 256, {4, 2, 2, 2}},               /* 12 mod of the output */
    {TVM_FLOW_ARENA, 0, SPLIT_H_BITS, 4, SPLIT_H_DEVICE, 0, {SPLIT_H_EXTENT, 2, 2, 2}}, /* 13 h of toy */
    {TVM_FLOW_ARENA, F32, 4, 1, 128, {4, 2, 2, 2}},              /* 14 v of toy */
    {TVM_FLOW_WEIGHTS, F32, 1, 1, 384, {32}},                    /* 15 part of the weights */
};
/* The library's own table has what the CPU calls. */
static const tvm_flow_kernel cpu_kernels[] = {NULL, SPLIT_CPU_KERNEL, NULL};
static const uint32_t split_args[] = {7, 8, 9, 10, 0, 3, 4, 5, 13, 12, 11, 14};
static const tvm_flow_call split_calls[] = {{0, 0, 4}, {1, 4, 4}, {2, 8, 4}};
static const tvm_flow_device_row devices[] = {
    {SPLIT_CPU_NAME, SPLIT_CPU_ARENA, 0}, {SPLIT_TOY_NAME, SPLIT_TOY_ARENA, SPLIT_TOY_PROMPT}, {"other", SPLIT_OTHER_ARENA, 16}};
static const tvm_flow_segment segments[] = {
    {2, 0, SPLIT_BORDER, 0, 2, 0, kernels, sizeof kernels},
    {1, 1, 0, 2, 1, 0, NULL, 0},
    {0, 1, 1, 3, 0, 0, NULL, 0},
    {SPLIT_STEP_DEVICE, SPLIT_STEP_CALL, SPLIT_STEP_CALLS, SPLIT_FIRST_COPY, SPLIT_COPY_COUNT, 0, SPLIT_PAYLOAD,
     sizeof kernels},
    {0, 3, 0, 4, 1, 0, NULL, 0},
};
static const tvm_flow_copy copies[] = {{1, 7}, {2, 8}, {10, 11}, {SPLIT_COPY_FROM, SPLIT_COPY_TO}, {14, 6}};
static const uint32_t split_inputs[] = {0, 1, 2};

__attribute__((visibility("default"))) const tvm_flow_library_descriptor tvm_flow_library = {
    .abi = TVM_FLOW_ABI,
    .struct_bytes = sizeof(tvm_flow_library_descriptor),
    .target = "toy",
    .cpu_features = "",
    .arena_bytes = 576,
    .step_bytes = 400,
    .weights_bytes = 512,
    .step_floats = 34,
    .variant_floats = TOY_VARIANT_FLOATS,
    .num_tensors = 16,
    .num_kernels = 3,
    .num_prologue_calls = 1,
    .num_calls = 3,
    .num_args = 12,
    .num_folds = 4,
    .num_inputs = 3,
    .tensors = split_tensors,
    .kernels = cpu_kernels,
    .kernel_names = names,
    .calls = split_calls,
    .args = split_args,
    .folds = folds,
    .inputs = split_inputs,
    .output = 6,
    .enter = enter,
    .num_devices = SPLIT_DEVICES,
    .num_segments = SPLIT_SEGMENTS,
    .num_copies = SPLIT_COPIES,
    .devices = SPLIT_DEVICE_TABLE,
    .segments = SPLIT_SEGMENT_TABLE,
    .copies = SPLIT_COPY_TABLE,
};
