/* How the processor rounds and what it does with denormal numbers: the caller's own in a program that set them, which
 * would change bits of every latent. Kernels and sampler run with IEEE's default: to nearest, denormals kept, no traps.
 */
#ifndef TVM_FLOW_FLOAT_MODE_H
#define TVM_FLOW_FLOAT_MODE_H

#include <stdint.h>

typedef uint64_t flow_float_mode;

/* Of the calling thread. The clobber keeps loads, and so what is computed from them, on their side. */
#if defined(__SSE__)
static inline flow_float_mode flow_float_get(void) {
  uint32_t mode;
  __asm__ volatile("stmxcsr %0" : "=m"(mode) : : "memory");
  return mode;
}

static inline void flow_float_set(flow_float_mode mode) {
  const uint32_t word = (uint32_t)mode;
  __asm__ volatile("ldmxcsr %0" : : "m"(word) : "memory");
}

#define FLOW_FLOAT_DEFAULT 0x1f80u /* all exceptions masked */
#elif defined(__aarch64__)
static inline flow_float_mode flow_float_get(void) {
  flow_float_mode mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode) : : "memory");
  return mode;
}

static inline void flow_float_set(flow_float_mode mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }

#define FLOW_FLOAT_DEFAULT 0u
#else /* not known: the caller's */
static inline flow_float_mode flow_float_get(void) { return 0; }
static inline void flow_float_set(flow_float_mode mode) { (void)mode; }
#define FLOW_FLOAT_DEFAULT 0u
#endif

/* Sets IEEE's default; the mode before, for flow_float_set. */
static inline flow_float_mode flow_float_enter(void) {
  const flow_float_mode before = flow_float_get();
  flow_float_set(FLOW_FLOAT_DEFAULT);
  return before;
}

#endif
