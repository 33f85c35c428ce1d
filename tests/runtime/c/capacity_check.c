/* Prints whether the named CPUs differ in speed; CAPACITY_FILE says where to look. */
#include <stdio.h>
#include <stdlib.h>

#include "affinity.h"

int main(int argc, char **argv) {
  uint32_t cpus[8];
  for (int i = 1; i < argc; i++) cpus[i - 1] = (uint32_t)atoi(argv[i]);
  printf("%d\n", flow_cpus_differ(cpus, (uint32_t)argc - 1));
  return 0;
}
