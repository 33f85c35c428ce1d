/* exchange_race BUNDLE LIBRARY EVIL OPENS: another thread puts EVIL and the good file in turns where LIBRARY lies.
 *
 * Prints how many opens succeeded, how many were refused, and how often EVIL's constructor ran (it sets EVIL). */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tvm_flow.h"

static atomic_int done;

static void put(const char *from, const char *library) {
  char link_name[4096];
  snprintf(link_name, sizeof link_name, "%s.next", library);
  if (link(from, link_name) != 0 || rename(link_name, library) != 0) exit(3);
}

static void *exchange(void *arguments) {
  char **argv = arguments, good[4096];
  snprintf(good, sizeof good, "%s.good", argv[2]);
  if (link(argv[2], good) != 0) exit(3);
  while (!done) {
    put(argv[3], argv[2]);
    put(good, argv[2]);
  }
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t thread;
  long opened = 0, refused = 0, evil = 0;
  if (argc != 5 || pthread_create(&thread, NULL, exchange, argv) != 0) return 2;
  for (long left = atol(argv[4]); left > 0; left--) {
    tvm_flow_options options = {sizeof options, 1, 0};
    tvm_flow *flow;
    if (tvm_flow_open(argv[1], &options, &flow, NULL)) refused++;
    else opened++;
    tvm_flow_close(flow);
    evil += getenv("EVIL") != NULL;
    unsetenv("EVIL");
  }
  done = 1;
  pthread_join(thread, NULL);
  printf("%ld %ld %ld\n", opened, refused, evil);
  return 0;
}
