/* Reads a VGF, and it with every byte changed in several ways and cut at every length; under the address sanitizer, for
 * every copy ends with its memory. Prints how many of the damaged ones were refused, and how many there were. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vgf.h"

static volatile uint64_t seen; /* that everything named is read */

static const char *look(const vgf *file) {
  vgf_tensor tensor;
  const uint8_t *data = NULL;
  for (uint32_t i = 0; i < file->num_words; i++) seen += file->words[i];
  seen += strlen(file->entry);
  for (uint32_t i = 0; i < file->num_inputs + file->num_outputs; i++) {
    const char *wrong = vgf_argument(file, i, &tensor);
    if (wrong) return wrong;
  }
  for (uint32_t i = 0; i < file->num_constants; i++) {
    const char *wrong = vgf_constant(file, i, &tensor, &data);
    if (wrong) return wrong;
    for (uint64_t b = 0; b < tensor.bytes; b++) seen += data[b];
  }
  return NULL;
}

static int is_refused(const uint8_t *bytes, size_t count) {
  vgf file;
  uint8_t *copy = malloc(count ? count : 1);
  memcpy(copy, bytes, count);
  const char *wrong = vgf_open(&file, copy, count);
  if (!wrong) wrong = look(&file);
  free(copy);
  return wrong != NULL;
}

int main(int count, char **words) {
  static uint8_t bytes[1 << 16];
  FILE *file = count == 2 ? fopen(words[1], "rb") : NULL;
  if (!file) return 2;
  const size_t size = fread(bytes, 1, sizeof bytes, file);
  fclose(file);
  if (is_refused(bytes, size)) return 1;
  unsigned refused = 0, tried = 0;
  for (size_t i = 0; i < size; i++) {
    const uint8_t was = bytes[i];
    const uint8_t others[] = {0, 1, 127, 128, 255, (uint8_t)(was + 1), (uint8_t)(was - 1), (uint8_t)(was ^ 64)};
    for (unsigned j = 0; j < sizeof others; j++, tried++) {
      bytes[i] = others[j];
      refused += (unsigned)is_refused(bytes, size);
    }
    bytes[i] = was;
    refused += (unsigned)is_refused(bytes, i);
    tried++;
  }
  return printf("%u of %u\n", refused, tried) < 0;
}
