/* What tvm_flow.tune.board_bundle has TVM's RPC server load on a board: a bundle's golden input, run by the bundle's
 * own runtime and libraries, on a thread of its own, so that the server goes on answering.
 *
 * board_start(bundle, devices, part, threads) begins; `devices` is the folder of libtvm_flow_device_*.so; 0 or -errno.
 * board_take(data, milliseconds) gives so many bytes of the records of trace_records.h, 0 when none came in time,
 * -1 after the last. board_words(text) then gives the bytes of the reason for which it failed, 0 for none.
 * board_stop() ends a run after the kernel that it is in.
 */
#define _DEFAULT_SOURCE /* bring.h */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "../examples/bring.h"
#include "board_values.h"
#include "trace_records.h"

enum { PATH = 1024, PIPE = 1 << 20, SETTLE_MS = 2 };

static char bundle_path[PATH], device_path[PATH], part_name[PATH];
static uint32_t run_threads;
static pthread_t runner;
static int reading = -1; /* the pipe's end, -1 when no run is going on */
static int run_failed;

static void copy_text(const flow_any *value, char out[PATH]) {
  const flow_dltensor *text = tensor(value);
  snprintf(out, PATH, "%.*s", (int)text->shape[0], (const char *)text->data);
}

static void *run(void *unused) {
  const tvm_flow_device_type *devices[TVM_FLOW_MAX_DEVICES];
  sigset_t gone; /* of who reads; writing then fails */
  sigemptyset(&gone), sigaddset(&gone, SIGPIPE), pthread_sigmask(SIG_BLOCK, &gone, NULL);
  const tvm_flow_options options = {.struct_bytes = sizeof options,
                                    .threads = run_threads,
                                    .num_devices = load_devices(device_path, devices),
                                    .devices = devices};
  run_failed = trace_run(bundle_path, part_name, &options);
  fclose(trace_to);
  return unused;
}

static void end_run(void) {
  if (reading < 0) return;
  close(reading), reading = -1;
  pthread_join(runner, NULL);
}

BOARD_FUNCTION(start) {
  (void)self, (void)count;
  int ends[2];
  end_run();
  for (int i = 0; i < 3; i++) copy_text(&args[i], i == 0 ? bundle_path : i == 1 ? device_path : part_name);
  run_threads = (uint32_t)args[3].v_int64, trace_error.message[0] = 0;
  if (pipe2(ends, O_CLOEXEC)) return answer(result, -errno);
  (void)fcntl(ends[1], F_SETPIPE_SZ, PIPE); /* fewer switches; small ones do too */
  trace_to = fdopen(ends[1], "wb");
  const int code = trace_to ? pthread_create(&runner, NULL, run, NULL) : errno;
  if (!code) return reading = ends[0], answer(result, 0);
  close(ends[0]), trace_to ? (void)fclose(trace_to) : (void)close(ends[1]);
  return answer(result, -code);
}

BOARD_FUNCTION(take) {
  (void)self, (void)count;
  const flow_dltensor *data = tensor(&args[0]);
  const int64_t wanted = data->shape[0];
  int64_t taken = 0;
  if (reading < 0) return answer(result, -1);
  struct pollfd one = {.fd = reading, .events = POLLIN};
  while (taken < wanted && poll(&one, 1, taken ? SETTLE_MS : (int)args[1].v_int64) > 0) {
    const ssize_t got = read(reading, (char *)data->data + taken, (size_t)(wanted - taken));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 && !taken) return end_run(), answer(result, -1);
    if (got <= 0) break;
    taken += got;
  }
  return answer(result, taken);
}

BOARD_FUNCTION(words) {
  (void)self, (void)count;
  const flow_dltensor *text = tensor(&args[0]);
  const size_t bytes = run_failed ? strlen(trace_error.message) : 0;
  memcpy(text->data, trace_error.message, bytes < (size_t)text->shape[0] ? bytes : (size_t)text->shape[0]);
  return answer(result, (int64_t)bytes);
}

BOARD_FUNCTION(stop) {
  (void)self, (void)args, (void)count;
  return end_run(), answer(result, 0);
}
