/* try_prompt BUNDLE FILE: opens the prompt and the null caption; prints the status, and the message or the sha256 of
 * both. Built under the address sanitizer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sha256.h"
#include "tvm_flow_prompt.h"

static char *append(char *at, const tvm_flow_prompt *prompt, const tvm_flow_description *d) {
  const size_t text = (size_t)d->text_tokens * d->text_channels * sizeof(float), mask = d->text_tokens * sizeof(float);
  memcpy(at, prompt->tokens, text);
  memcpy(at + text, prompt->mask, mask);
  return at + text + mask;
}

int main(int argc, char **argv) {
  tvm_flow_options options = {.struct_bytes = sizeof options, .threads = 1};
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  tvm_flow_prompt cond = {0}, uncond = {0};
  tvm_flow_description d;
  tvm_flow *flow;
  uint8_t digest[FLOW_SHA256_BYTES];
  if (argc != 3 || tvm_flow_open(argv[1], &options, &flow, &error)) return fputs(error.message, stderr), 2;
  tvm_flow_describe(flow, &d);
  tvm_flow_status status = tvm_flow_prompt_open(argv[2], flow, &cond, &error);
  if (!status) status = tvm_flow_null_prompt(flow, &cond, &uncond, &error);
  tvm_flow_close(flow); /* prompts outlive it */
  printf("%d %s", (int)status, error.message);
  if (!status) {
    const size_t floats = (size_t)d.text_tokens * (d.text_channels + 1u);
    char *both = malloc(2 * floats * sizeof(float));
    append(append(both, &cond, &d), &uncond, &d);
    flow_sha256(both, 2 * floats * sizeof(float), digest);
    for (int i = 0; i < FLOW_SHA256_BYTES; i++) printf("%02x", digest[i]);
    free(both);
  }
  puts("");
  if (status && uncond.tokens) return 3; /* nothing is held after a failure */
  tvm_flow_prompt_close(&uncond);
  tvm_flow_prompt_close(&uncond);
  tvm_flow_prompt_close(&cond);
  return status != error.status || cond.tokens != NULL;
}
