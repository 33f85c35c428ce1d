// throw_through BUNDLE CALLBACK: a C++ callback throws; prints "caught" where the exception passed through the runtime.
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "tvm_flow_control.h"

static int after_step(void *, uint32_t, uint32_t) { throw std::runtime_error("after a step"); }
static int after_kernel(void *, const tvm_flow_kernel_call *) { throw std::runtime_error("after a kernel"); }

int main(int argc, char **argv) {
  static float zeros[4096], out[4096];
  const tvm_flow_prompt prompt = {zeros, zeros};
  tvm_flow_request request{};
  tvm_flow *flow;
  if (argc != 3 || tvm_flow_open(argv[1], nullptr, &flow, nullptr)) return 2;
  request.noise = zeros, request.cond = request.uncond = prompt;
  const bool trace = std::strcmp(argv[2], "trace") == 0;
  try {
    if (trace) tvm_flow_set_trace(flow, after_kernel, nullptr);
    tvm_flow_generate(flow, &request, out, trace ? nullptr : after_step, nullptr, nullptr);
  } catch (const std::exception &) {
    return std::puts("caught"), 3;
  }
  return 4;
}
