/* A VGF: the graph of an NPU, written by Arm's model converter. Of what is accepted every constant is read. */
#include "vgf.h"

#include <stdlib.h>
#include <string.h>

#include "driver.h"

static volatile uint8_t sum;

static void read_all(const vgf *file) {
  vgf_tensor tensor;
  const uint8_t *bytes;
  for (uint32_t i = 0; i < file->num_inputs + file->num_outputs; i++)
    if (!vgf_argument(file, i, &tensor)) sum = (uint8_t)(sum + tensor.bytes);
  for (uint32_t i = 0; i < file->num_constants; i++)
    if (!vgf_constant(file, i, &tensor, &bytes))
      for (uint64_t k = 0; k < tensor.bytes; k++) sum = (uint8_t)(sum + bytes[k]);
  for (uint32_t i = 0; i < file->num_words; i++) sum = (uint8_t)(sum + file->words[i]);
  sum = (uint8_t)(sum + strlen(file->entry));
}

int target_attempt(const uint8_t *data, size_t bytes) {
  uint8_t *exact = malloc(bytes + !bytes);
  memcpy(exact, data, bytes);
  vgf file;
  const char *wrong = vgf_open(&file, exact, bytes);
  if (!wrong) read_all(&file);
  free(exact);
  return wrong != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) { return target_attempt(data, bytes), 0; }
