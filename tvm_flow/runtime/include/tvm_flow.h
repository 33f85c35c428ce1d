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
 * Errors: functions that can fail return a tvm_flow_status, and fill the caller's tvm_flow_error. None of them ends the
 * process, prints or sets a signal handler. After a failure of anything but open the handle can be used again.
 *
 * Threads: any number of handles may run at once, each in its own thread. One handle serves one call at a time, from
 * whatever thread: all but describe and cancel return BUSY, and change nothing, while another runs or from one of its
 * callbacks, which run on the thread that called. Parallel loops reach their thread pool through a thread-local pointer
 * of its library, set while a plan runs, because TVM's launch has no argument for a handle.
 * Workers sleep after 50 to 100 us with nothing to do, and take no signals. A forked child has no workers: there every
 * function but describe and cancel returns FORKED, close too, which frees nothing; open the bundle there.
 *
 * Callbacks return: none is left by longjmp or a C++ exception (which ends the program).
 *
 * Floats: what runs rounds to nearest, keeps denormals and traps nothing, whatever the caller's thread is set to, whose
 * own mode comes back with the call. Callbacks run in the runtime's (x86 with SSE, AArch64).
 *
 * Ownership: whatever a pointer argument points to stays the caller's, and is read or written during the call only.
 * Arrays are dense, row-major, in the machine's byte order, and need no alignment beyond their element's.
 *
 * While a handle is open its files must not be truncated (weights are memory-mapped). Replacing a bundle whole is
 * fine, but the dynamic loader knows libraries by path: the new bundle opens once the old handle is closed.
 *
 * Versions: structures that may grow come with their size: programs of older headers run with a newer libtvm_flow.so.
 */
#ifndef TVM_FLOW_H
#define TVM_FLOW_H

#include "tvm_flow_accept.h"
#include "tvm_flow_base.h"
#include "tvm_flow_cause.h"
#include "tvm_flow_files.h"
#include "tvm_flow_preview.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tvm_flow_library_descriptor;
struct tvm_flow_device_type;

/* A step group's library that is part of the program, for systems without a dynamic loader. */
typedef struct {
  const char *group; /* its name in the bundle: "group0" for lib/TARGET/group0.so */
  const struct tvm_flow_library_descriptor *library; /* see tvm_flow_library.h */
  const uint8_t *sha256; /* 32 bytes: of that file, which open compares with the bundle's; NULL: not compared */
} tvm_flow_linked;

typedef struct {
  uint32_t struct_bytes; /* sizeof(tvm_flow_options): lets a newer runtime serve an older caller */
  /* Workers, the calling thread included, at most 256. 0: one for each of `cpus`, else for every big core that it may
   * use, one at least half as fast as the fastest, and no more than its container's control group has time for. */
  uint32_t threads;
  uint32_t weights_checked; /* non-zero: weights.bin was hashed by the caller just now; do not read it all again */
  uint32_t num_linked; /* rows of `linked` */
  /* Read during tvm_flow_open only: tvm_flow_linked_groups of tvm_flow_groups.h. The files of these groups are not
   * read and need not be there. */
  const tvm_flow_linked *linked;
  /* CPU numbers as Linux counts them, each once: worker i runs on cpus[i] and nowhere else, so name big cores first.
   * NULL: the system moves workers as it likes, among big cores where there are enough. Read during tvm_flow_open only.
   * The calling thread is worker 0: it is bound while kernels run, and has its own CPUs back in callbacks and after the
   * call. */
  const uint32_t *cpus;
  uint32_t num_cpus; /* at least `threads`, or 0; with threads 0, a worker for each of them */
  /* 1 to 64: into how many tasks for each thread a parallel loop is cut. Threads take one after the other, so that fast
   * cores take more. 0: 8 where the cores differ in speed, else 1. The result is the same, bit for bit. */
  uint32_t tasks_per_thread;
  uint32_t num_devices; /* rows of `devices` */
  /* What may run parts of a plan besides the CPU (tvm_flow_device.h). The types stay until tvm_flow_close, the table is
   * read during tvm_flow_open only. Those that no library names are not opened. */
  const struct tvm_flow_device_type *const *devices;
  /* All memory of the handle but mapped files, loaded libraries and the stacks of threads; NULL both: the system's. */
  tvm_flow_allocate allocate;
  tvm_flow_release release;
  tvm_flow_log log; /* NULL: nobody listens */
  void *user;       /* goes with the three, and with find */
  tvm_flow_find find; /* where the bundle's files are (tvm_flow_files.h); NULL: in the folder */
  uint64_t memory_limit; /* 0: none; bytes that the handle may take (tvm_flow_memory.h) */
  tvm_flow_accept accept; /* whether this bundle may be opened (tvm_flow_accept.h); NULL: any that is whole */
  void *accept_user;
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

/* What a bundle holds. Pointers are the handle's, until tvm_flow_close. Memory of a handle: arena_bytes + step_bytes +
 * prompt_bytes, some latents, kilobytes of tables, and weights_bytes of pages that the system may drop. */
typedef struct {
  uint32_t latent_ndim;
  uint32_t latent_shape[TVM_FLOW_MAX_LATENT_DIMS]; /* channels first, e.g. C, T, H, W; 1 past latent_ndim */
  uint64_t latent_floats; /* product of the shape */
  uint64_t output_floats; /* latent_floats, or twice as many: a prediction, then its variance */
  uint32_t text_tokens;   /* of a caption, padding included */
  uint32_t text_channels; /* floats in a token */
  uint32_t steps;         /* of the denoising loop */
  uint32_t branches; /* 1: conditional only; 2: conditional and unconditional */
  uint32_t groups;   /* libraries */
  uint32_t guided_channels; /* the first so many latent channels are guided */
  double cfg_scale;
  uint32_t threads;     /* that run, the caller included */
  uint64_t arena_bytes; /* activations: one arena for all groups */
  uint64_t step_bytes; /* constants of a step, all groups together */
  uint64_t prompt_bytes; /* what the steps of a prompt share, all branches together */
  uint64_t weights_bytes; /* of weights.bin, mapped read-only */
  const char *sampler_json; /* the configuration that the tables of the bundle were made for; it runs no other */
  const float *timesteps;   /* [steps], 0..1000 */
  const tvm_flow_update *updates; /* [steps] */
} tvm_flow_description;

/* A caption: float32 tokens [text_tokens, text_channels]; mask [text_tokens], added to scores: 0 keeps, -inf hides. */
typedef struct { const float *tokens; const float *mask; } tvm_flow_prompt;

/* Writes `count` floats of unit Gaussian noise for `step`. Called once for each step that draws noise (iddpm, and ddim
 * with an eta; never the last step), before its graphs run; non-zero cancels. */
typedef int (*tvm_flow_draw)(void *user, uint32_t step, float *noise, uint64_t count);

/* noise: float32 [latent_shape], standard normal values. uncond is not read when there is one branch. What steps draw
 * comes from `draw`; where it is NULL, from tvm_flow_gaussian(seed, step + 1). */
typedef struct {
  uint64_t struct_bytes; /* sizeof(tvm_flow_request); 0: the fields up to seed */
  const float *noise;
  tvm_flow_prompt cond;
  tvm_flow_prompt uncond;
  tvm_flow_draw draw;
  void *draw_user;
  uint64_t seed;
  tvm_flow_preview preview; /* NULL: nobody looks (tvm_flow_preview.h) */
  void *preview_user;
} tvm_flow_request;

/* Called after each step with the number of steps done (1 to steps) and their total; non-zero cancels. */
typedef int (*tvm_flow_progress)(void *user, uint32_t done, uint32_t steps);

/* Opens and checks a bundle directory.
 *
 * bundle_dir  path, not empty, UTF-8 or whatever the file system takes; not kept, as neither are `linked` and `cpus`
 * options     NULL for the defaults; not kept
 * out         the handle, for tvm_flow_close; NULL on failure, and nothing is held then
 * error       may be NULL
 *
 * Reads and hashes steps.bin, the groups' libraries and, unless weights_checked, weights.bin: seconds for gigabytes.
 * May be called from several threads at once. steps.bin and libraries are copied, then checked, and what was checked
 * is used (memfd_create: Linux 3.17, Android). weights.bin is mapped: leave it as it is while the bundle is open.
 *
 * INVALID_ARGUMENT   a null pointer, options of another size, CPUs that cannot be had, too many tasks_per_thread
 * FILE_ERROR         a file is absent, unreadable or not a regular file
 * CORRUPT            a size, hash or number is wrong          WRONG_SCHEMA  this schema and the one before are read
 * BAD_LIBRARY, WRONG_ABI, WRONG_CPU   a group that cannot run here, or a linked one of another build
 * NO_DEVICE          a group needs a device that the options do not bring          NO_MEMORY, NO_THREAD
 * and whatever options.accept returns. tvm_flow_cause_of (tvm_flow_cause.h) tells more of each. */
TVM_FLOW_API tvm_flow_status tvm_flow_open(const char *bundle_dir, const tvm_flow_options *options, tvm_flow **out,
                                           tvm_flow_error *error);

/* Frees everything; NULL is allowed. While a function runs on the handle it does nothing and returns BUSY, and in a
 * forked child FORKED. */
TVM_FLOW_API tvm_flow_status tvm_flow_close(tvm_flow *flow);

/* Fills `bytes` of *out, its size as the caller knows it, with zeros past the runtime's own. No pointer may be NULL.
 * Allowed at any time, also while another thread runs the handle. */
TVM_FLOW_API void tvm_flow_describe_sized(const tvm_flow *flow, tvm_flow_description *out, size_t bytes);
#define tvm_flow_describe(flow, out) tvm_flow_describe_sized(flow, out, sizeof(tvm_flow_description))

/* One step graph: what the model predicts of latents z float32 [latent_shape] at `step` (0 is the noisiest), with the
 * constants of `branch` (0 conditional, 1 unconditional): velocity or noise, float32 [output_floats]. What depends on
 * the prompt alone is computed in every call; tvm_flow_generate computes it once. velocity may be z where that is as
 * long, and is written only on success.
 * INVALID_ARGUMENT a null pointer or out of range; KERNEL_FAILED; NOT_FINITE, z too; CANCELLED by trace or cancel. */
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
 * What depends on a prompt alone is computed at its first step, and again at the first step after another step group.
 * latents float32 [latent_shape] may be the same array as noise. It is written only on success. The same request gives
 * the same bits for every number of threads, choice of CPUs and tasks_per_thread. progress and user may be NULL; user
 * is handed to progress and not looked at. Noise, every prediction and every latent are looked through, once.
 * INVALID_ARGUMENT a null pointer; KERNEL_FAILED; NOT_FINITE, where a trace (tvm_flow_trace.h) finds the kernel;
 * CANCELLED by progress, a trace or tvm_flow_cancel. */
TVM_FLOW_API tvm_flow_status tvm_flow_generate(tvm_flow *flow, const tvm_flow_request *request, float *latents,
                                               tvm_flow_progress progress, void *user, tvm_flow_error *error);

/* Generates from the bundle's golden input and compares the latents bit for bit with its golden output: whether this
 * machine computes what the one that packed did. Takes as long as one video, or for a bundle that keeps the golden
 * output of its first steps as long as those, and one latent of memory more.
 * FILE_ERROR or CORRUPT golden.bin; NO_MEMORY; KERNEL_FAILED; NOT_GOLDEN, and for a bundle of --check none. */
TVM_FLOW_API tvm_flow_status tvm_flow_verify(tvm_flow *flow, tvm_flow_error *error);

#ifdef __cplusplus
}
#endif
#endif
