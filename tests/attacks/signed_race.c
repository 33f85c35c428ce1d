/* signed_race BUNDLE OTHER KEY OPENS: another thread puts steps.bin of OTHER, which nobody signed, and the signed one in
 * turns where BUNDLE has it. Prints how many opens succeeded, how many were refused as a bad signature and otherwise, and
 * how many that succeeded show the guidance of OTHER. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tvm_flow.h"
#include "tvm_flow_signature.h"

static atomic_int done;
static char good[4096], steps[4096], other[4096], next[4096];

static void put(const char *from) {
  if (link(from, next) != 0 || rename(next, steps) != 0) exit(3);
}

static void *exchange(void *unused) {
  while (!done) put(other), put(good);
  return unused;
}

static double guidance(const char *bundle, const tvm_flow_options *options, tvm_flow_status *status) {
  tvm_flow *flow;
  tvm_flow_description all = {0};
  *status = tvm_flow_open(bundle, options, &flow, NULL);
  if (flow) tvm_flow_describe(flow, &all);
  tvm_flow_close(flow);
  return all.cfg_scale;
}

int main(int argc, char **argv) {
  uint8_t key[1][32];
  unsigned byte;
  pthread_t thread;
  tvm_flow_status status;
  long opened = 0, refused = 0, others = 0, wrong = 0;
  if (argc != 5) return 2;
  for (int i = 0; i < 32; i++) sscanf(argv[3] + 2 * i, "%2x", &byte), key[0][i] = (uint8_t)byte;
  snprintf(steps, sizeof steps, "%s/steps.bin", argv[1]);
  snprintf(good, sizeof good, "%s.good", argv[1]);
  snprintf(next, sizeof next, "%s.next", argv[1]);
  snprintf(other, sizeof other, "%s/steps.bin", argv[2]);
  tvm_flow_trust trust = {.struct_bytes = sizeof trust, .num_keys = 1, .keys = key};
  const tvm_flow_options options = {
      .struct_bytes = sizeof options, .threads = 1, .accept = tvm_flow_check_signature, .accept_user = &trust};
  const double right = guidance(argv[1], &options, &status);
  if (status || link(steps, good) != 0 || pthread_create(&thread, NULL, exchange, NULL) != 0) return 2;
  for (long left = atol(argv[4]); left > 0; left--) {
    const double got = guidance(argv[1], &options, &status);
    if (!status) opened++, wrong += got < right || got > right;
    else if (status == TVM_FLOW_BAD_SIGNATURE) refused++;
    else others++;
  }
  done = 1;
  pthread_join(thread, NULL);
  printf("%ld %ld %ld %ld\n", opened, refused, others, wrong);
  return 0;
}
