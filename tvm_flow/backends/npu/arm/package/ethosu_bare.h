/* Regions on bare metal, by Arm's ethos-u-core-driver. */
#ifndef TVM_FLOW_ETHOSU_BARE_H
#define TVM_FLOW_ETHOSU_BARE_H
#include "ethosu_region.h"
#ifdef __cplusplus
extern "C" {
#endif
/* Runs a region on what lies at the input offset of `scratch`; `fast` may be NULL where fast_bytes is 0. 0: done; -1:
 * no driver was free; else what the driver said. Caches are the driver's affair. */
int ethosu_bare_run(const ethosu_region *region, uint8_t *scratch, uint8_t *fast);
#ifdef __cplusplus
}
#endif
#endif
