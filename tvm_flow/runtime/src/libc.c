#include "../include/tvm_flow_libc.h"

const char TVM_FLOW_BUILT_FOR = 0;
