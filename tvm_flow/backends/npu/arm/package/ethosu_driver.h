/* What is called of Arm's ethos-u-core-driver (Apache-2.0); its own header declares the same and more. */
#ifndef TVM_FLOW_ETHOSU_DRIVER_H
#define TVM_FLOW_ETHOSU_DRIVER_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
struct ethosu_driver;
struct ethosu_driver *ethosu_reserve_driver(void);
void ethosu_release_driver(struct ethosu_driver *driver);
/* 0: the command stream has run. Regions are addresses and sizes, by number. */
int ethosu_invoke_v3(struct ethosu_driver *driver, const void *commands, const int commands_bytes,
                     uint64_t *const addresses, const size_t *sizes, const int regions, void *user);
#ifdef __cplusplus
}
#endif
#endif
