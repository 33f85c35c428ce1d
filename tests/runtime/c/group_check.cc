// TVMParallelGroupEnv lives in a header of TVM that only C++ reads.
#include <tvm/runtime/c_backend_api.h>

#include <cstddef>
#include <type_traits>

extern "C" {
#include "tvm_flow_library.h"
}

struct flow_parallel_group {
  void *sync_handle;
  int32_t num_task;
};
static_assert(sizeof(flow_parallel_group) == sizeof(TVMParallelGroupEnv), "size");
static_assert(offsetof(flow_parallel_group, num_task) == offsetof(TVMParallelGroupEnv, num_task), "num_task");

using Launch = decltype(&TVMBackendParallelLaunch);
static_assert(std::is_same<Launch, int (*)(int (*)(int, TVMParallelGroupEnv *, void *), void *, int)>::value, "launch");
static_assert(std::is_same<decltype(&TVMBackendAllocWorkspace), decltype(tvm_flow_hooks::alloc_workspace)>::value,
              "alloc");
static_assert(std::is_same<decltype(&TVMBackendFreeWorkspace), decltype(tvm_flow_hooks::free_workspace)>::value, "free");

int main() { return 0; }
