/* The file of a caption, for a bundle of 3 tokens of 4 channels, read by its path. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../include/tvm_flow_prompt.h"
#include "flow.h"
#include "given.h"

int target_attempt(const uint8_t *data, size_t bytes) {
  static int file = -1;
  static char path[64];
  static const flow_index_header header = {.text_tokens = 3, .text_channels = 4};
  static const tvm_flow flow = {.index = {.header = &header, .text_floats = 12}};
  static volatile float sum;
  tvm_flow_error error;
  tvm_flow_prompt prompt;
  if (file < 0) snprintf(path, sizeof path, "/proc/self/fd/%d", file = memfd_create("prompt", 0));
  if (ftruncate(file, 0) || pwrite(file, data, bytes, 0) != (ssize_t)bytes) abort();
  const tvm_flow_status s = tvm_flow_prompt_open(path, &flow, &prompt, &error);
  for (int i = 0; !s && i < 12; i++) sum += prompt.tokens[i];
  for (int i = 0; !s && i < 3; i++) sum += prompt.mask[i] < 0;
  tvm_flow_prompt_close(&prompt);
  return (int)s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) { return with_digest(data, bytes); }
