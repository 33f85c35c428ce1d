/* Runs a tvm-flow bundle: the whole denoising loop of a video diffusion transformer, from noise to latents.
 *
 *   tvm_flow *flow;
 *   tvm_flow_error error;
 *   if (tvm_flow_open("model.bundle", NULL, &flow, &error)) { fputs(error.message, stderr); exit(1); }
 *   tvm_flow_generate(flow, &request, latents, NULL, NULL, &error);
 *   tvm_flow_close(flow);
 *
 * Every file of the bundle is checked before a byte of it runs. All memory that the loop needs is taken at open;
 * velocity and generate allocate nothing, apart from workspace that a kernel asks for.
 *
 * Threads: any number of handles may run at once, each in its own thread; one handle serves one call at a time.
 * A kernel's parallel loops reach their thread pool through a thread-local pointer that is set while a plan runs,
 * because the launch hook of TVM has no argument for a handle.
 *
 * While a handle is open its files must not be truncated (weights are memory-mapped). Replacing a bundle whole is
 * fine, but the dynamic loader knows libraries by path: the new bundle opens once the old handle is closed.
 */
#ifndef TVM_FLOW_H
#define TVM_FLOW_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TVM_FLOW_API __attribute__((visibility("default")))
#else
#define TVM_FLOW_API
#endif

typedef enum {
  TVM_FLOW_OK = 0,
  TVM_FLOW_INVALID_ARGUMENT = 1, /* a null pointer, a step or branch out of range */
  TVM_FLOW_FILE_ERROR = 2,       /* a file is absent or unreadable */
  TVM_FLOW_CORRUPT = 3,          /* a file's size, hash or content contradicts itself */
  TVM_FLOW_WRONG_SCHEMA = 4,     /* a bundle of another format version */
  TVM_FLOW_WRONG_ABI = 5,        /* a library of another descriptor version */
  TVM_FLOW_BAD_LIBRARY = 6,      /* the loader refused a library, or its tables reach outside their space */
  TVM_FLOW_WRONG_CPU = 7,        /* this processor lacks a feature that the kernels use */
  TVM_FLOW_NO_MEMORY = 8,
  TVM_FLOW_NO_THREAD = 9,
  TVM_FLOW_KERNEL_FAILED = 10, /* a kernel returned an error; the message is its own */
  TVM_FLOW_CANCELLED = 11,     /* a callback asked to stop */
  TVM_FLOW_NOT_GOLDEN = 12     /* the golden input did not give the golden output */
} tvm_flow_status;

/* Owned by the caller; every function accepts NULL. Written on failure only: which thing, what was expected, what was
 * found, what to do next; one line, cut at the end of the buffer. */
typedef struct {
  tvm_flow_status status;
  char message[508];
} tvm_flow_error;

struct tvm_flow_library_descriptor;

/* A step group's library that is part of the program, for systems without a dynamic loader. */
typedef struct {
  const char *group; /* its name in the bundle: "group0" for lib/TARGET/group0.so */
  const struct tvm_flow_library_descriptor *library; /* see tvm_flow_library.h */
} tvm_flow_linked;

typedef struct {
  uint32_t struct_bytes; /* sizeof(tvm_flow_options): lets a newer runtime serve an older caller */
  uint32_t threads;      /* workers, the caller included; 0 means one for every core this process may use */
  uint32_t weights_checked; /* non-zero: weights.bin was hashed by the caller just now; do not read it all again */
  uint32_t num_linked; /* rows of `linked` */
  /* Read during tvm_flow_open only. These groups' files in the bundle are not read, so nothing but tvm_flow_verify
   * says whether a linked library and the bundle belong together. */
  const tvm_flow_linked *linked;
} tvm_flow_options;

typedef struct tvm_flow tvm_flow;

#define TVM_FLOW_MAX_LATENT_DIMS 8

/* One step of the sampler, in double; tvm_flow_generate says what each number multiplies. */
typedef struct {
  double of_z;
  double of_prediction;
  double sigma; /* 0: the step draws no noise */
  double log_sigma;
  double log_sigma_of_variance;
} tvm_flow_update;

/* What a bundle holds. Pointers live until tvm_flow_close. */
typedef struct {
  uint32_t latent_ndim;
  uint32_t latent_shape[TVM_FLOW_MAX_LATENT_DIMS]; /* channels first, e.g. C, T, H, W */
  uint64_t latent_floats;
  uint64_t output_floats; /* latent_floats, or twice as many: a prediction, then its variance */
  uint32_t text_tokens;
  uint32_t text_channels;
  uint32_t steps;
  uint32_t branches; /* 1: conditional only; 2: conditional and unconditional */
  uint32_t groups;
  uint32_t guided_channels;
  double cfg_scale;
  uint32_t threads;
  uint64_t arena_bytes;
  uint64_t step_bytes; /* all groups together */
  uint64_t weights_bytes;
  const char *sampler_json; /* the configuration that the tables of the bundle were made for; it runs no other */
  const float *timesteps;   /* [steps], 0..1000 */
  const tvm_flow_update *updates; /* [steps] */
} tvm_flow_description;

/* One caption: tokens float32 [text_tokens, text_channels], mask float32 [text_tokens] added to attention scores
 * (0 keeps a token, -inf hides it). */
typedef struct {
  const float *tokens;
  const float *mask;
} tvm_flow_prompt;

/* Writes `count` floats of unit Gaussian noise for `step`. Called once for each step that draws noise (iddpm, and ddim
 * with an eta; never the last step), before its graphs run; non-zero cancels. */
typedef int (*tvm_flow_draw)(void *user, uint32_t step, float *noise, uint64_t count);

/* noise: float32 [latent_shape]. uncond is not read when the bundle has one branch. What steps draw comes from `draw`;
 * where it is NULL, from tvm_flow_gaussian(seed, step + 1). */
typedef struct {
  const float *noise;
  tvm_flow_prompt cond;
  tvm_flow_prompt uncond;
  tvm_flow_draw draw;
  void *draw_user;
  uint64_t seed;
} tvm_flow_request;

/* Called after each step with the number of steps done and their total; non-zero cancels. */
typedef int (*tvm_flow_progress)(void *user, uint32_t done, uint32_t steps);

/* A dense row-major tensor as a kernel saw it. dtype codes are DLPack's: 0 int, 1 uint, 2 float. */
typedef struct {
  const void *data;
  const int64_t *shape;
  int32_t ndim;
  uint8_t dtype_code;
  uint8_t dtype_bits;
} tvm_flow_view;

/* One finished kernel call. args[num_args - 1] is what the kernel wrote. Valid during the callback only. */
typedef struct {
  uint32_t step;
  uint32_t branch;
  uint32_t call;
  uint32_t num_args;
  const char *kernel;
  const tvm_flow_view *args;
} tvm_flow_kernel_call;

/* Non-zero stops the plan; the running function returns TVM_FLOW_CANCELLED. */
typedef int (*tvm_flow_trace)(void *user, const tvm_flow_kernel_call *call);

/* Opens and checks a bundle directory. options may be NULL. On failure *out is NULL and nothing is held. */
TVM_FLOW_API tvm_flow_status tvm_flow_open(const char *bundle_dir, const tvm_flow_options *options, tvm_flow **out,
                                           tvm_flow_error *error);

/* Frees everything; NULL is allowed. No call on the handle may be under way. */
TVM_FLOW_API void tvm_flow_close(tvm_flow *flow);

TVM_FLOW_API void tvm_flow_describe(const tvm_flow *flow, tvm_flow_description *out);

/* One step graph: what the model predicts of latents z at `step`, with the constants of `branch`: velocity or noise,
 * float32 [output_floats]. */
TVM_FLOW_API tvm_flow_status tvm_flow_velocity(tvm_flow *flow, uint32_t step, uint32_t branch, const float *z,
                                               const tvm_flow_prompt *prompt, float *velocity, tvm_flow_error *error);

/* Unit Gaussian noise that depends on seed, stream and place alone, the same bits on every machine and in Python
 * (tvm_flow.sampler.seeded_noise). Stream 0 is for the noise that a request starts from. */
TVM_FLOW_API void tvm_flow_gaussian(uint64_t seed, uint64_t stream, float *noise, uint64_t count);

/* The denoising loop. z and predictions are float32; a step is computed in double, not contracted, and rounded once:
 *
 *   z = noise
 *   for each step:  ec, w = prediction(z, branch 0, cond);  eu = prediction(z, branch 1, uncond)
 *                   e = eu + cfg * (ec - eu)  on the first guided_channels channels,  e = ec on the others
 *                   z = of_z * z + of_prediction * e
 *                       + sigma * exp(log_sigma + log_sigma_of_variance * w) * drawn noise     where sigma is not 0
 *
 * w is the second half of a prediction of twice the latent's channels; without one the exponential is 1.
 *
 * latents may be the same array as noise. It is written only on success. */
TVM_FLOW_API tvm_flow_status tvm_flow_generate(tvm_flow *flow, const tvm_flow_request *request, float *latents,
                                               tvm_flow_progress progress, void *user, tvm_flow_error *error);

/* Generates from the bundle's golden input and compares the latents bit for bit with its golden output, which is that
 * of all steps, or of the first ones for a model whose trajectory takes hours. */
TVM_FLOW_API tvm_flow_status tvm_flow_verify(tvm_flow *flow, tvm_flow_error *error);

/* Calls `trace` after every kernel call from now on; NULL stops. Unset it costs one predictable branch a kernel. */
TVM_FLOW_API void tvm_flow_set_trace(tvm_flow *flow, tvm_flow_trace trace, void *user);

#ifdef __cplusplus
}
#endif
#endif
