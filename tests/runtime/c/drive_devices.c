/* A bundle whose plans run on three devices, for the sanitizers: drive_devices BUNDLE THREADS. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAST_ERROR error.message
#include "expect.h"
#include "flow.h"
#include "toy_device.h"

enum { HANDLES = 2 };

static const char *bundle;
static uint32_t threads;
static pthread_barrier_t all_done;

static tvm_flow_options with_devices(void) {
  return (tvm_flow_options){
      .struct_bytes = sizeof(tvm_flow_options), .threads = threads, .num_devices = TOY_DEVICES, .devices = toy_devices};
}

/* What a trace saw: one letter a call, and the last tensor that was written. */
typedef struct {
  char devices[64];
  float last[32];
  float sum; /* of every value of every argument: reads them all */
} seen;

static int note(void *user, const tvm_flow_kernel_call *call) {
  seen *s = user;
  strncat(s->devices, call->device, 1);
  for (uint32_t i = 0; i < call->num_args; i++) {
    int64_t count = 1;
    for (int d = 0; d < call->args[i].ndim; d++) count *= call->args[i].shape[d];
    for (int64_t j = 0; j < count; j++) s->sum += (float)((const uint8_t *)call->args[i].data)[4 * j];
  }
  if (call->call == 2) memcpy(s->last, call->args[3].data, sizeof s->last);
  return 0;
}

static int stop_on_other(void *user, const tvm_flow_kernel_call *call) {
  return user == NULL && strcmp(call->device, "other") == 0;
}

/* The CPU answers to the same functions. */
static void use_cpu(tvm_flow *flow) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  const flow_bound *cpu = &flow->function.plans[0].devices[0];
  float values[32], back[32];
  for (int i = 0; i < 32; i++) values[i] = (float)i;
  EXPECT(strcmp(cpu->type->name, "cpu") == 0);
  EXPECT(cpu->type->write(cpu->bound, 0, 0, values, &error) == TVM_FLOW_OK);
  EXPECT(cpu->type->read(cpu->bound, 0, 0, back, &error) == TVM_FLOW_OK);
  EXPECT(memcmp(values, back, sizeof values) == 0);
}

static void use(tvm_flow *flow) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  float z[32], text[12] = {1, 2, 3}, mask[3] = {0}, plain[32], traced[32];
  const tvm_flow_prompt prompt = {text, mask};
  seen s = {"", {0}, 0};
  for (int i = 0; i < 32; i++) z[i] = (float)i / 8;
  EXPECT(tvm_flow_velocity(flow, 0, 0, z, &prompt, plain, &error) == TVM_FLOW_OK);
  EXPECT(tvm_flow_set_trace(flow, note, &s) == TVM_FLOW_OK);
  EXPECT(tvm_flow_velocity(flow, 0, 0, z, &prompt, traced, &error) == TVM_FLOW_OK);
  EXPECT(strcmp(s.devices, "oct") == 0);
  EXPECT(memcmp(plain, traced, sizeof plain) == 0 && memcmp(plain, s.last, sizeof plain) == 0);
  tvm_flow_set_trace(flow, stop_on_other, NULL);
  EXPECT(tvm_flow_velocity(flow, 0, 1, z, &prompt, traced, &error) == TVM_FLOW_CANCELLED);
  tvm_flow_set_trace(flow, NULL, NULL);
  EXPECT(tvm_flow_velocity(flow, 0, 0, z, &prompt, traced, &error) == TVM_FLOW_OK);
  EXPECT(memcmp(plain, traced, sizeof plain) == 0);
}

static void *run(void *unused) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  const tvm_flow_options options = with_devices();
  tvm_flow *flow;
  EXPECT(tvm_flow_open(bundle, &options, &flow, &error) == TVM_FLOW_OK);
  use_cpu(flow);
  for (int i = 0; i < 3; i++) EXPECT(tvm_flow_verify(flow, &error) == TVM_FLOW_OK);
  use(flow);
  EXPECT(tvm_flow_verify(flow, &error) == TVM_FLOW_OK);
  pthread_barrier_wait(&all_done);
  tvm_flow_close(flow);
  return unused;
}

/* A device that fails is an error with its words, and nothing is held or broken. */
static void failures(void) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  const tvm_flow_options options = with_devices();
  tvm_flow *flow;
  for (toy_failing = TOY_OPEN; toy_failing <= TOY_BIND; toy_failing++) {
    EXPECT(tvm_flow_open(bundle, &options, &flow, &error) == TVM_FLOW_KERNEL_FAILED && flow == NULL);
    EXPECT(strncmp(error.message, "toy: ", 5) == 0 && toy_held == 0);
  }
  toy_failing = TOY_NONE;
  EXPECT(tvm_flow_open(bundle, &options, &flow, &error) == TVM_FLOW_OK);
  for (toy_failing = TOY_STEP; toy_failing <= TOY_RUN; toy_failing++) {
    EXPECT(tvm_flow_verify(flow, &error) == TVM_FLOW_KERNEL_FAILED);
    EXPECT(strncmp(error.message, "toy: ", 5) == 0);
  }
  toy_failing = TOY_NONE;
  EXPECT(tvm_flow_verify(flow, &error) == TVM_FLOW_OK);
  tvm_flow_close(flow);
  EXPECT(toy_held == 0);
}

static void misuse(void) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  tvm_flow_options options = with_devices();
  tvm_flow *flow;
  EXPECT(tvm_flow_open(bundle, NULL, &flow, &error) == TVM_FLOW_NO_DEVICE && flow == NULL);
  EXPECT(strstr(error.message, "expected a device \"toy\" among options.devices"));
  options.devices = &toy_devices[1], options.num_devices = 1;
  EXPECT(tvm_flow_open(bundle, &options, &flow, &error) == TVM_FLOW_NO_DEVICE && strstr(error.message, "\"other\""));
  options.devices = NULL;
  EXPECT(tvm_flow_open(bundle, &options, &flow, &error) == TVM_FLOW_INVALID_ARGUMENT);
  const tvm_flow_device_type *none = NULL;
  options.devices = &none;
  EXPECT(tvm_flow_open(bundle, &options, &flow, &error) == TVM_FLOW_INVALID_ARGUMENT);
  for (int which = 0; which < 4; which++) {
    tvm_flow_device_type wrong = *toy_devices[1];
    const tvm_flow_device_type *row = &wrong;
    if (which == 0) wrong.abi++;
    if (which == 1) wrong.struct_bytes -= 8;
    if (which == 2) wrong.name = NULL;
    if (which == 3) wrong.run = NULL;
    options.devices = &row;
    EXPECT(tvm_flow_open(bundle, &options, &flow, &error) == TVM_FLOW_INVALID_ARGUMENT);
    EXPECT(strncmp(error.message, "options.devices[0]: ", 20) == 0);
  }
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  bundle = argv[1];
  threads = (uint32_t)atoi(argv[2]);
  pthread_t workers[HANDLES];
  pthread_barrier_init(&all_done, NULL, HANDLES);
  for (int i = 0; i < HANDLES; i++)
    if (pthread_create(&workers[i], NULL, run, NULL) != 0) return 3;
  for (int i = 0; i < HANDLES; i++) pthread_join(workers[i], NULL);
  failures();
  misuse();
  return puts("ok") < 0;
}
