#include "error.h"

#include <stdarg.h>
#include <stdio.h>

tvm_flow_status flow_fail(tvm_flow_error *error, tvm_flow_status status, const char *format, ...) {
  if (error) {
    va_list args;
    va_start(args, format);
    error->status = status;
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
  }
  return status;
}
