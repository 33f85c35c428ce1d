/* The device npu_arm where there is no NPU: VGFs are run by another process, in Arm's emulation layer.
 *
 * A Vulkan layer is chosen for a whole process, so the emulated device has its own; tvm_flow/backends/npu/arm/emulated.py
 * is that process and states the requests. Memory of the device is here. Inputs of a graph are the arguments of a call,
 * constants included: nothing is kept over there but graphs.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tvm_flow_device.h"

#ifndef NPU_PYTHON
#define NPU_PYTHON "python3"
#endif
#define MODULE "tvm_flow.backends.npu.arm.emulated"

extern char **environ;

/* As tvm_flow/backends/npu/arm/blobs.py writes a segment's payload. */
typedef struct {
  const unsigned char *vgf;
  uint64_t vgf_bytes;
  const char *signature;
  uint64_t signature_bytes;
} npu_blob;

typedef struct {
  tvm_flow_device_open_info info;
  int socket;
  pid_t process;
  uint32_t graphs; /* that were loaded */
} device;

typedef struct {
  device *owner;
  const tvm_flow_library_descriptor *library;
  uint8_t *arena;
  uint8_t *step;
  uint8_t *prompts; /* one after the other */
  uint64_t prompt_bytes;
  uint32_t *graphs; /* of each call: its graph's number, plus one */
} bound;

enum { ALIGNMENT = 64 };

static void *take(const device *d, uint64_t bytes) {
  const tvm_flow_services *services = d->info.services;
  return services->allocate(services->user, bytes + 1, ALIGNMENT);
}

static void give(const device *d, void *memory) {
  if (memory) d->info.services->release(d->info.services->user, memory);
}

static tvm_flow_status failed(tvm_flow_error *error, tvm_flow_status status, const char *what, const char *why) {
  if (error) {
    error->status = status;
    snprintf(error->message, sizeof error->message, "device npu_arm: %s: %s", what, why);
  }
  return status;
}

static tvm_flow_status no_memory(tvm_flow_error *error, const char *what) {
  return failed(error, TVM_FLOW_NO_MEMORY, what, "no memory; free memory");
}

static int send_all(const device *d, const void *data, uint64_t bytes) {
  const uint8_t *from = data;
  while (bytes) {
    const ssize_t sent = send(d->socket, from, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return -1;
    from += sent;
    bytes -= (uint64_t)sent;
  }
  return 0;
}

static int receive_all(const device *d, void *data, uint64_t bytes) {
  uint8_t *to = data;
  while (bytes) {
    const ssize_t got = recv(d->socket, to, bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return -1;
    to += got;
    bytes -= (uint64_t)got;
  }
  return 0;
}

/* The reply to a request: `bytes` of output, or the other side's words as the error. */
static tvm_flow_status answer(const device *d, const char *what, void *output, uint64_t bytes, tvm_flow_error *error) {
  uint32_t head[2] = {0, 0};
  if (receive_all(d, head, sizeof head)) return failed(error, TVM_FLOW_KERNEL_FAILED, what, "the emulator ended");
  if (head[0]) {
    char words[400];
    const uint32_t kept = head[1] < sizeof words - 1 ? head[1] : (uint32_t)sizeof words - 1;
    if (receive_all(d, words, kept)) return failed(error, TVM_FLOW_KERNEL_FAILED, what, "the emulator ended");
    words[kept] = 0;
    for (uint32_t rest = head[1] - kept; rest; rest--) {
      char dropped;
      if (receive_all(d, &dropped, 1)) break;
    }
    return failed(error, TVM_FLOW_KERNEL_FAILED, what, words);
  }
  if (head[1] != bytes) return failed(error, TVM_FLOW_KERNEL_FAILED, what, "an output of another size");
  return receive_all(d, output, bytes) ? failed(error, TVM_FLOW_KERNEL_FAILED, what, "the emulator ended") : TVM_FLOW_OK;
}

/* Its standard input is our socket; a process group of its own, so that Ctrl-C ends it by our closing. */
static int start(device *d) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return errno;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  char *const words[] = {(char *)(uintptr_t)NPU_PYTHON, (char *)(uintptr_t) "-m", (char *)(uintptr_t)MODULE, NULL};
  int status = posix_spawn_file_actions_init(&actions);
  if (!status) {
    status = posix_spawnattr_init(&attributes);
    if (!status) {
      posix_spawn_file_actions_adddup2(&actions, ends[1], 0);
      posix_spawn_file_actions_adddup2(&actions, 2, 1); /* what layers print is no reply */
      posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
      posix_spawnattr_setpgroup(&attributes, 0);
      status = posix_spawn(&d->process, NPU_PYTHON, &actions, &attributes, words, environ);
      posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
  }
  close(ends[1]);
  if (status) close(ends[0]);
  d->socket = ends[0];
  return status;
}

static tvm_flow_status open_device(const tvm_flow_device_open_info *info, void **out, tvm_flow_error *error) {
  const tvm_flow_services *services = info->services;
  device *d = services->allocate(services->user, sizeof *d, ALIGNMENT);
  if (!d) return no_memory(error, "open");
  *d = (device){.info = *info};
  const int status = start(d);
  if (status) {
    give(d, d);
    return failed(error, TVM_FLOW_NO_DEVICE, "start " NPU_PYTHON, strerror(status));
  }
  *out = d;
  return TVM_FLOW_OK;
}

static void close_device(void *opened) {
  device *d = opened;
  close(d->socket); /* it reads the end of its requests and ends */
  while (waitpid(d->process, NULL, 0) < 0 && errno == EINTR) continue;
  give(d, d);
}

static void unbind(void *plan) {
  bound *b = plan;
  give(b->owner, b->graphs);
  give(b->owner, b->arena);
  give(b->owner, b->step);
  give(b->owner, b->prompts);
  give(b->owner, b);
}

static tvm_flow_status load(device *d, const npu_blob *blob, tvm_flow_error *error) {
  const uint32_t head[2] = {(uint32_t)blob->signature_bytes, (uint32_t)blob->vgf_bytes};
  if (send_all(d, "L\0\0\0", 4) || send_all(d, head, sizeof head) ||
      send_all(d, blob->signature, blob->signature_bytes) || send_all(d, blob->vgf, blob->vgf_bytes))
    return failed(error, TVM_FLOW_KERNEL_FAILED, "load a graph", "the emulator ended");
  return answer(d, "load a graph", NULL, 0, error);
}

/* Each graph of the plan once: calls of one kernel share a blob. */
static tvm_flow_status load_graphs(bound *b, uint32_t row, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *library = b->library;
  for (uint32_t s = 0; s < library->num_segments; s++) {
    const tvm_flow_segment *segment = &library->segments[s];
    if (segment->device != row || !segment->num_calls) continue;
    const npu_blob *blobs = segment->payload;
    for (uint32_t i = 0; i < segment->num_calls; i++) {
      const uint32_t call = segment->first_call + i;
      for (uint32_t other = 0; other < call && !b->graphs[call]; other++)
        if (b->graphs[other] && library->calls[other].kernel == library->calls[call].kernel)
          b->graphs[call] = b->graphs[other];
      if (b->graphs[call]) continue;
      const tvm_flow_status status = load(b->owner, &blobs[i], error);
      if (status != TVM_FLOW_OK) return status;
      b->graphs[call] = ++b->owner->graphs;
    }
  }
  return TVM_FLOW_OK;
}

static tvm_flow_status bind_plan(void *opened, const tvm_flow_device_plan *plan, void **out, tvm_flow_error *error) {
  device *d = opened;
  const tvm_flow_library_descriptor *library = plan->library;
  const tvm_flow_device_row *row = &library->devices[plan->row];
  bound *b = take(d, sizeof *b);
  if (!b) return no_memory(error, "bind");
  *b = (bound){.owner = d, .library = library, .prompt_bytes = row->prompt_bytes};
  b->arena = take(d, row->arena_bytes);
  b->step = take(d, library->step_bytes);
  b->prompts = take(d, row->prompt_bytes * d->info.branches);
  b->graphs = take(d, library->num_calls * sizeof *b->graphs);
  if (!b->arena || !b->step || !b->prompts || !b->graphs) {
    unbind(b);
    return no_memory(error, "bind");
  }
  memset(b->graphs, 0, library->num_calls * sizeof *b->graphs);
  const tvm_flow_status status = load_graphs(b, plan->row, error);
  if (status != TVM_FLOW_OK) {
    unbind(b);
    return status;
  }
  *out = b;
  return TVM_FLOW_OK;
}

static uint8_t *place(const bound *b, uint32_t tensor, uint32_t branch) {
  const tvm_flow_tensor *t = &b->library->tensors[tensor];
  switch (t->space) {
    case TVM_FLOW_ARENA:
      return b->arena + t->offset;
    case TVM_FLOW_WEIGHTS: /* only read: calls write what they compute, and that is in the arena or a prompt */
      return (uint8_t *)(uintptr_t)b->owner->info.weights + t->offset;
    case TVM_FLOW_STEP:
      return b->step + t->offset;
    default:
      return b->prompts + branch * b->prompt_bytes + t->offset;
  }
}

static uint64_t bytes_of(const bound *b, uint32_t tensor) {
  const tvm_flow_tensor *t = &b->library->tensors[tensor];
  uint64_t bytes = t->dtype_bits / 8u;
  for (int i = 0; i < t->ndim; i++) bytes *= (uint64_t)t->shape[i];
  return bytes;
}

static tvm_flow_status step(void *plan, uint32_t branch, const uint8_t *block, tvm_flow_error *error) {
  bound *b = plan;
  (void)branch, (void)error;
  memcpy(b->step, block, (size_t)b->library->step_bytes);
  return TVM_FLOW_OK;
}

static tvm_flow_status write_tensor(void *plan, uint32_t tensor, uint32_t branch, const void *host, tvm_flow_error *e) {
  (void)e;
  memcpy(place(plan, tensor, branch), host, (size_t)bytes_of(plan, tensor));
  return TVM_FLOW_OK;
}

static tvm_flow_status read_tensor(void *plan, uint32_t tensor, uint32_t branch, void *host, tvm_flow_error *error) {
  (void)error;
  memcpy(host, place(plan, tensor, branch), (size_t)bytes_of(plan, tensor));
  return TVM_FLOW_OK;
}

static tvm_flow_status run_call(bound *b, uint32_t index, uint32_t branch, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *library = b->library;
  const tvm_flow_call *call = &library->calls[index];
  const uint32_t *args = library->args + call->first_arg, inputs = call->num_args - 1;
  const char *name = library->kernel_names[call->kernel];
  uint64_t bytes = 0;
  for (uint32_t a = 0; a < inputs; a++) bytes += bytes_of(b, args[a]);
  const uint32_t head[2] = {b->graphs[index] - 1, (uint32_t)bytes};
  if (bytes > UINT32_MAX) return failed(error, TVM_FLOW_KERNEL_FAILED, name, "more than 4 GB of arguments");
  int broken = send_all(b->owner, "R\0\0\0", 4) || send_all(b->owner, head, sizeof head);
  for (uint32_t a = 0; a < inputs && !broken; a++)
    broken = send_all(b->owner, place(b, args[a], branch), bytes_of(b, args[a]));
  if (broken) return failed(error, TVM_FLOW_KERNEL_FAILED, name, "the emulator ended");
  return answer(b->owner, name, place(b, args[inputs], branch), bytes_of(b, args[inputs]), error);
}

static tvm_flow_status run(void *plan, const tvm_flow_device_run *what, tvm_flow_error *error) {
  for (uint32_t i = what->first; i < what->first + what->count; i++) {
    const tvm_flow_status status = run_call(plan, i, what->branch, error);
    if (status != TVM_FLOW_OK) return status;
  }
  return TVM_FLOW_OK;
}

__attribute__((visibility("default"))) extern const tvm_flow_device_type tvm_flow_device_npu_arm;
const tvm_flow_device_type tvm_flow_device_npu_arm = {.abi = TVM_FLOW_DEVICE_ABI,
                                                      .struct_bytes = sizeof(tvm_flow_device_type),
                                                      .name = "npu_arm",
                                                      .open = open_device,
                                                      .close = close_device,
                                                      .bind = bind_plan,
                                                      .unbind = unbind,
                                                      .step = step,
                                                      .write = write_tensor,
                                                      .read = read_tensor,
                                                      .run = run};
