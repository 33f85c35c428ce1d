// TVMParallelGroupEnv lives in a header of TVM that only C++ reads, as do the functions that tvm_flow.plan.emit defines.
#include <tvm/runtime/c_backend_api.h>

#include <cstddef>
#include <type_traits>

struct flow_parallel_group {
  void *sync_handle;
  int32_t num_task;
};
static_assert(sizeof(flow_parallel_group) == sizeof(TVMParallelGroupEnv), "size");
static_assert(offsetof(flow_parallel_group, num_task) == offsetof(TVMParallelGroupEnv, num_task), "num_task");

using Launch = decltype(&TVMBackendParallelLaunch);
static_assert(std::is_same<Launch, int (*)(int (*)(int, TVMParallelGroupEnv *, void *), void *, int)>::value, "launch");
using Allocate = decltype(&TVMBackendAllocWorkspace);
static_assert(std::is_same<Allocate, void *(*)(int, int, uint64_t, int, int)>::value, "alloc");
static_assert(std::is_same<decltype(&TVMBackendFreeWorkspace), int (*)(int, int, void *)>::value, "free");

int main() { return 0; }
