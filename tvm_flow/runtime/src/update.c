#include "update.h"

#include <math.h>
#include <string.h>

/* e^x from sums and products alone, because the C libraries' own differ in their last bits. */
static double exponential(double x) {
  const double limit = 700.0, log2_e = 1.4426950408889634;
  const double ln2_high = 0.6931471803691238, ln2_low = 1.9082149292705877e-10;
  if (isnan(x)) return x;
  x = x > -limit ? x : -limit;
  x = x < limit ? x : limit;
  const double n = floor(x * log2_e + 0.5);
  const double r = (x - n * ln2_high) - n * ln2_low;
  double total = 1.0, power;
  for (int k = 12; k > 0; k--) total = total * r / k + 1.0;
  const uint64_t bits = (uint64_t)((int64_t)n + 1023) << 52; /* 2^n, a normal number for |n| <= 1010 */
  memcpy(&power, &bits, sizeof power);
  return total * power;
}

static double drawn(const flow_update_inputs *in, uint64_t i) {
  const tvm_flow_update *row = in->row;
  double spread = row->sigma;
  if (in->variance) spread *= exponential(row->log_sigma + row->log_sigma_of_variance * (double)in->variance[i]);
  return spread * (double)in->fresh[i];
}

void flow_update(const flow_update_inputs *in, float *z) {
  const tvm_flow_update *row = in->row;
  for (uint64_t i = 0; i < in->count; i++) {
    double e = (double)in->cond[i];
    if (i < in->guided) e = (double)in->uncond[i] + in->cfg * (e - (double)in->uncond[i]);
    double next = row->of_z * (double)z[i] + row->of_prediction * e;
    if (row->sigma > 0) next += drawn(in, i);
    z[i] = (float)next;
  }
}
