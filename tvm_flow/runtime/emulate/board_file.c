/* Files of a board: board_read(path, text) fills `text` with the file `path` and gives its bytes; board_put(path, data,
 * position) writes `data` there, in a file that begins anew at position 0, and makes its folders. Both give -errno when
 * they fail. Paths and data are uint8 tensors. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "board_values.h"

enum { MOST_PATH = 1024 };

static int text_of(const flow_any *value, char out[MOST_PATH]) {
  const flow_dltensor *text = tensor(value);
  if (text->shape[0] >= MOST_PATH) return 1;
  memcpy(out, text->data, (size_t)text->shape[0]);
  out[text->shape[0]] = 0;
  return 0;
}

BOARD_FUNCTION(read) {
  (void)self, (void)count;
  const flow_dltensor *text = tensor(&args[1]);
  char name[MOST_PATH];
  if (text_of(&args[0], name)) return answer(result, -ENAMETOOLONG);
  FILE *file = fopen(name, "rb");
  if (!file) return answer(result, -errno);
  const size_t bytes = fread(text->data, 1, (size_t)text->shape[0], file);
  fclose(file);
  return answer(result, (int64_t)bytes);
}

BOARD_FUNCTION(put) {
  (void)self, (void)count;
  const flow_dltensor *data = tensor(&args[1]);
  const int64_t position = args[2].v_int64;
  char name[MOST_PATH];
  if (text_of(&args[0], name)) return answer(result, -ENAMETOOLONG);
  for (char *slash = name; (slash = strchr(slash + 1, '/'));) *slash = 0, mkdir(name, 0700), *slash = '/';
  FILE *file = fopen(name, position ? "ab" : "wb");
  if (!file) return answer(result, -errno);
  const int whole = fwrite(data->data, 1, (size_t)data->shape[0], file) == (size_t)data->shape[0];
  const int code = whole ? 0 : errno;
  return answer(result, fclose(file) || code ? -(code ? code : errno) : 0);
}
