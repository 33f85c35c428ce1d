/* tvm_flow.sampler.noise states this arithmetic and tells where its numbers come from. */
#include <math.h>
#include <string.h>

#include "../include/tvm_flow.h"
#include "float_mode.h"

enum { TERMS = 8 };

static const uint64_t golden = 0x9e3779b97f4a7c15u;

static const double middle[2][TERMS] = {
    {2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0},
    {5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0}};
static const double tail[2][TERMS] = {
    {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0},
    {1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0}};

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

static double ratio(const double coefficients[2][TERMS], double r) {
  double above = 0.0, below = 0.0;
  for (int i = 0; i < TERMS; i++) {
    above = above * r + coefficients[0][i];
    below = below * r + coefficients[1][i];
  }
  return above / below;
}

static double logarithm(double x) {
  int e;
  double m = frexp(x, &e);
  if (m < 0.7071067811865476) m *= 2.0, e--;
  const double s = (m - 1.0) / (m + 1.0);
  double total = 1.0 / 15.0;
  for (int k = 13; k > 0; k -= 2) total = total * (s * s) + 1.0 / k;
  return e * 0.6931471805599453 + 2.0 * s * total;
}

static double normal_quantile(double u) {
  const double q = u - 0.5;
  if (fabs(q) <= 0.425) return q * ratio(middle, 0.180625 - q * q);
  const double outer = ratio(tail, sqrt(-logarithm(q < 0 ? u : 1.0 - u)) - 1.6);
  return q < 0 ? -outer : outer;
}

void tvm_flow_gaussian(uint64_t seed, uint64_t stream, float *noise, uint64_t count) {
  const flow_float_mode before = flow_float_enter();
  const uint64_t key = mix(seed + stream * golden);
  for (uint64_t i = 0; i < count; i++) {
    const uint32_t bits = (uint32_t)(mix(key + (i + 1) * golden) >> 32);
    noise[i] = (float)normal_quantile(((double)bits + 0.5) / 4294967296.0);
  }
  flow_float_set(before);
}
