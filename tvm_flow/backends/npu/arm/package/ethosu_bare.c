#include "ethosu_bare.h"

#include "ethosu_driver.h"

int ethosu_bare_run(const ethosu_region *region, uint8_t *scratch, uint8_t *fast) {
  uint64_t addresses[] = {(uintptr_t)region->weights, (uintptr_t)scratch, (uintptr_t)fast};
  const size_t sizes[] = {region->weights_bytes, region->scratch_bytes, region->fast_bytes};
  struct ethosu_driver *driver = ethosu_reserve_driver();
  if (!driver) return -1;
  const int status =
      ethosu_invoke_v3(driver, region->commands, (int)region->commands_bytes, addresses, sizes, 3, NULL);
  ethosu_release_driver(driver);
  return status;
}
