/* What is asked of Linux's driver for Ethos-U (drivers/accel/ethosu, since 6.19), in words of our own: the numbers and
 * layouts are those of the kernel's <drm/ethosu_accel.h>, which need not be installed.
 */
#ifndef TVM_FLOW_ETHOSU_ACCEL_H
#define TVM_FLOW_ETHOSU_ACCEL_H
#include <stdint.h>
#include <sys/ioctl.h>

/* Gives at most `bytes` of an ethosu_accel_info. */
typedef struct {
  uint32_t kind; /* 0 */
  uint32_t bytes;
  uint64_t info; /* its address */
} ethosu_accel_query;

typedef struct {
  uint32_t id;     /* architecture in bits 28 to 31, 20 to 27 and 16 to 19; product in bits 12 to 15 */
  uint32_t config; /* the logarithm to 2 of multiply-adds of a cycle in bits 0 to 3 */
  uint32_t sram_bytes;
} ethosu_accel_info;

typedef struct {
  uint64_t bytes; /* comes back in whole pages */
  uint32_t flags; /* 1: is never mapped */
  uint32_t handle;
} ethosu_accel_buffer;

typedef struct {
  uint32_t handle;
  uint32_t zero;
  int64_t until_ns; /* of CLOCK_MONOTONIC */
} ethosu_accel_wait;

typedef struct {
  uint32_t handle;
  uint32_t zero;
  uint64_t offset; /* for mmap */
} ethosu_accel_map;

/* The kernel copies the words and checks every address that they make. */
typedef struct {
  uint32_t bytes;
  uint32_t flags; /* 0 */
  uint64_t words; /* their address */
  uint32_t handle;
  uint32_t zero;
} ethosu_accel_commands;

typedef struct {
  uint32_t commands;
  uint32_t sram_bytes; /* of region 2, which then has no buffer */
  uint32_t regions[8]; /* handles; 0 for a region that the commands do not use, and must be for it */
} ethosu_accel_job;

typedef struct {
  uint64_t jobs; /* their address */
  uint32_t count;
  uint32_t zero;
} ethosu_accel_submit;

typedef struct {
  uint32_t handle;
  uint32_t zero;
} ethosu_accel_close;

#define ETHOSU_ACCEL_QUERY _IOWR('d', 0x40, ethosu_accel_query)
#define ETHOSU_ACCEL_BUFFER _IOWR('d', 0x41, ethosu_accel_buffer)
#define ETHOSU_ACCEL_WAIT _IOWR('d', 0x42, ethosu_accel_wait)
#define ETHOSU_ACCEL_MAP _IOWR('d', 0x43, ethosu_accel_map)
#define ETHOSU_ACCEL_COMMANDS _IOWR('d', 0x44, ethosu_accel_commands)
#define ETHOSU_ACCEL_SUBMIT _IOWR('d', 0x45, ethosu_accel_submit)
#define ETHOSU_ACCEL_CLOSE _IOW('d', 0x09, ethosu_accel_close)

#endif
