/* fork_use BUNDLE: a child uses the handles that its parent opened, one of which is running, and opens its own.
 *
 * It is forked while all other threads sleep: one that starts may hold a lock of AddressSanitizer's, which nobody opens
 * in the child.
 *
 * Prints what each function said in the child, then what its own verify said, then the parent's. */
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tvm_flow_control.h"
#include "tvm_flow_decoder.h"

enum { MOST = 4096 };
static float zeros[MOST], out[MOST];
static const tvm_flow_options options = {.struct_bytes = sizeof options, .threads = 3};
static const tvm_flow_prompt prompt = {zeros, zeros};
static const tvm_flow_request request = {.noise = zeros, .cond = prompt, .uncond = prompt};
static pthread_barrier_t running, forked;

static int hold(void *user, uint32_t done, uint32_t steps) {
  (void)user, (void)steps;
  if (done == 1) pthread_barrier_wait(&running), pthread_barrier_wait(&forked);
  return 0;
}

static void *generate(void *flow) {
  static float latents[MOST];
  return tvm_flow_generate(flow, &request, latents, hold, NULL, NULL) ? flow : NULL;
}

static void say(int status) { printf("%d ", status); }

static int child(const char *bundle, tvm_flow *const flows[2], tvm_flow_decoder *decoder) {
  tvm_flow *own;
  alarm(20); /* a lock that nobody will open ends here */
  for (int i = 0; i < 2; i++) {
    tvm_flow_description d;
    tvm_flow_describe(flows[i], &d), tvm_flow_cancel(flows[i]);
    say(d.steps > 0);
    say(tvm_flow_generate(flows[i], &request, out, NULL, NULL, NULL));
    say(tvm_flow_velocity(flows[i], 0, 0, zeros, &prompt, out, NULL));
    say(tvm_flow_verify(flows[i], NULL));
    say(tvm_flow_set_trace(flows[i], NULL, NULL));
    say(tvm_flow_close(flows[i]));
  }
  say(tvm_flow_decode(decoder, zeros, out, NULL));
  say(tvm_flow_decoder_close(decoder));
  if (tvm_flow_open(bundle, &options, &own, NULL)) return 1;
  say(tvm_flow_verify(own, NULL));
  say(tvm_flow_close(own));
  return puts("") < 0 || fflush(stdout);
}

/* All threads of this process but the first, as the kernel says. */
static int others_sleep(void) {
  DIR *threads = opendir("/proc/self/task");
  int awake = 0;
  for (struct dirent *each; (each = readdir(threads));) {
    char path[300], state = 'S';
    if (atoi(each->d_name) == 0 || atoi(each->d_name) == getpid()) continue;
    snprintf(path, sizeof path, "/proc/self/task/%s/stat", each->d_name);
    FILE *stat = fopen(path, "re");
    if (!stat || fscanf(stat, "%*d (%*[^)]) %c", &state) != 1 || state != 'S') awake++;
    if (stat) fclose(stat);
  }
  closedir(threads);
  return !awake;
}

int main(int argc, char **argv) {
  tvm_flow *flows[2];
  tvm_flow_decoder *decoder;
  pthread_t thread;
  void *failed;
  int status;
  if (argc != 2 || tvm_flow_open(argv[1], &options, &flows[0], NULL) || tvm_flow_open(argv[1], &options, &flows[1], NULL))
    return 2;
  if (tvm_flow_decoder_open(argv[1], &options, &decoder, NULL)) return 3;
  pthread_barrier_init(&running, NULL, 2), pthread_barrier_init(&forked, NULL, 2);
  pthread_create(&thread, NULL, generate, flows[1]);
  pthread_barrier_wait(&running);
  for (int looks = 0; looks < 2; looks = others_sleep() ? looks + 1 : 0) usleep(1000); /* twice: it looks one by one */
  const pid_t other = fork();
  if (other == 0) _exit(child(argv[1], flows, decoder));
  if (waitpid(other, &status, 0) != other || status) return fprintf(stderr, "child: status %x\n", status), 4;
  pthread_barrier_wait(&forked);
  pthread_join(thread, &failed);
  say(failed != NULL);
  say(tvm_flow_verify(flows[0], NULL));
  for (int i = 0; i < 2; i++) say(tvm_flow_close(flows[i]));
  say(tvm_flow_decoder_close(decoder));
  return puts("") < 0;
}
