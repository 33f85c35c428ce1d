/* Workers take no signals: signal_check BUNDLE. A signal that the application blocks in its only thread stays pending
 * for the process, where a worker that did not block it would run its handler. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tvm_flow.h"

static volatile sig_atomic_t taken;
static void on_signal(int number) { taken = number; }

int main(int argc, char **argv) {
  const tvm_flow_options options = {.struct_bytes = sizeof options, .threads = 3};
  tvm_flow_error error;
  tvm_flow *flow;
  sigset_t one, before, after;
  if (argc != 2 || signal(SIGUSR1, on_signal) == SIG_ERR) return 2;
  sigemptyset(&one);
  sigaddset(&one, SIGUSR1);
  if (tvm_flow_open(argv[1], &options, &flow, &error)) return fprintf(stderr, "%s\n", error.message), 1;
  pthread_sigmask(SIG_BLOCK, &one, &before);
  if (sigismember(&before, SIGUSR1) || sigismember(&before, SIGINT)) return fputs("the caller's mask changed\n", stderr), 1;
  kill(getpid(), SIGUSR1);
  usleep(100000);
  if (taken) return fputs("a worker took the signal\n", stderr), 1;
  pthread_sigmask(SIG_SETMASK, &before, &after);
  tvm_flow_close(flow);
  return taken != SIGUSR1 || puts("ok") < 0;
}
