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

/* Of a clock that never goes back. */
uint64_t flow_clock_ns(void);

/* CPUs that the calling thread may use, as sched.h's macros read them. Non-zero is a failure, with errno set. */
typedef cpu_set_t flow_cpu_set;
int flow_get_cpus(flow_cpu_set *out);
int flow_set_cpus(const flow_cpu_set *cpus);

/* Maps a regular file read-only; *data is NULL where it is empty. What is wrong in words, or NULL. Never blocks. */
const char *flow_system_map(const char *path, const uint8_t **data, uint64_t *bytes);
void flow_system_unmap(const uint8_t *data, uint64_t bytes);

#ifndef TVM_FLOW_NO_DLOPEN
/* NULL where it cannot be loaded; flow_dl_error says why. */
void *flow_dl_open(const char *path);
const char *flow_dl_error(void);
void *flow_dl_find(void *library, const char *symbol);
void flow_dl_close(void *library);
/* Where the library that holds `symbol` lies; NULL in a static program. */
const uint8_t *flow_dl_base(const void *symbol);
#endif

#endif
