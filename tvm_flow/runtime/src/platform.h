/* All that the runtime asks of the operating system; the only header here that knows one. A port to another system
 * brings these types and its own platform_*.c. */
#ifndef TVM_FLOW_PLATFORM_H
#define TVM_FLOW_PLATFORM_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#if defined(__aarch64__)
#include <sys/auxv.h> /* getauxval: what cpu.c asks */
#endif

/* Memory for options without an allocator; `user` is not looked at. */
void *flow_system_allocate(void *user, uint64_t bytes, uint64_t alignment);
void flow_system_release(void *user, void *memory);

typedef pthread_mutex_t flow_mutex;
typedef pthread_cond_t flow_condition;
typedef pthread_t flow_thread;

void flow_mutex_init(flow_mutex *mutex);
void flow_mutex_destroy(flow_mutex *mutex);
void flow_mutex_lock(flow_mutex *mutex);
void flow_mutex_unlock(flow_mutex *mutex);
void flow_condition_init(flow_condition *condition);
void flow_condition_destroy(flow_condition *condition);
void flow_condition_wait(flow_condition *condition, flow_mutex *mutex);
void flow_condition_broadcast(flow_condition *condition);

/* Non-zero where no thread can be had. It takes no signals, which are the application's, and has the CPUs of its
 * creator. */
int flow_thread_start(flow_thread *thread, void *(*run)(void *argument), void *argument);
void flow_thread_join(flow_thread thread);
void flow_thread_yield(void);

/* Which process this is: a forked child is another. */
uint64_t flow_process(void);

/* Of a clock that never goes back. */
uint64_t flow_clock_ns(void);

/* CPUs that the calling thread may use, as sched.h's macros read them. Non-zero is a failure, with errno set. */
typedef cpu_set_t flow_cpu_set;
int flow_get_cpus(flow_cpu_set *out);
int flow_set_cpus(const flow_cpu_set *cpus);

/* A regular file that is open for reading, or a part of one. */
typedef struct {
  int descriptor;
  int runs; /* its file system lets programs run */
  uint64_t offset;
  uint64_t bytes;
  uint8_t cause; /* of a failure: a tvm_flow_cause, NONE where the words say more */
} flow_system_file;

/* What is wrong in words, or NULL, each. Opening never blocks and follows no link that `path` itself is, unless
 * `follow`; a failure leaves nothing to close. */
const char *flow_system_open(const char *path, int follow, flow_system_file *out);
/* The same for the part of an open file that its offset and bytes say, if it lies in the file. */
const char *flow_system_adopt(flow_system_file *file);
/* Read-only; *data is NULL where the file is empty. */
const char *flow_system_map(const flow_system_file *file, const uint8_t **data);
/* All of its bytes: an error where they became fewer. */
const char *flow_system_read(const flow_system_file *file, uint8_t *out);
void flow_system_close(const flow_system_file *file);
/* Pages that lie wholly inside: their contents are lost, or read from their file again when they are wanted. */
void flow_system_drop(const void *memory, uint64_t bytes);
/* What flow_system_map gave. */
void flow_system_unmap(const uint8_t *data, uint64_t bytes);

/* A library from memory: a file that has no name and that nobody can write holds it, so that what is loaded is what was
 * hashed, whatever became of the bundle's file. `name` is for debuggers. */
typedef struct {
  void *handle; /* NULL: nothing is loaded */
  int descriptor;
} flow_dl;

#ifndef TVM_FLOW_NO_DLOPEN
/* What is wrong in words, or NULL; a failure leaves nothing to close. */
const char *flow_dl_open(const char *name, const uint8_t *data, uint64_t bytes, flow_dl *out);
const void *flow_dl_find(const flow_dl *library, const char *symbol);
void flow_dl_close(flow_dl *library);
#endif

#endif
