/* from_elsewhere BUNDLE PACKAGE: the bundle's files in memory, within the file PACKAGE and behind a reader, then in ways
 * that no file can lie. Prints for each way the statuses of opening and verifying, and the message of a failure. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tvm_flow_decoder.h"
#include "tvm_flow_prompt.h"

enum { MOST_FILES = 16 };
typedef struct {
  char name[64];
  uint8_t *data; /* on a page */
  uint64_t bytes, offset;
} entry;

typedef enum { MEMORY, ODD_MEMORY, PAGES, LINES, ODD, READER, GOOD } way;
static const char *const names[] = {"memory", "odd memory", "pages",    "lines",     "odd",      "reader",  "none",
                                    "beyond", "wrapped",    "no end",   "no reader", "a folder", "a pipe", "short"};
static entry entries[MOST_FILES];
static int num_entries, package, kind, folder, pipes[2];
static const char *bundle;

static entry *load(const char *name) {
  static const uint64_t steps[] = {[PAGES] = 65536, [LINES] = 64, [ODD] = 1, [READER] = 1};
  char path[4096];
  for (int i = 0; i < num_entries; i++)
    if (strcmp(entries[i].name, name) == 0) return &entries[i];
  snprintf(path, sizeof path, "%s/%s", bundle, name);
  FILE *file = fopen(path, "rb");
  if (!file || num_entries == MOST_FILES) return NULL;
  entry *e = &entries[num_entries++];
  snprintf(e->name, sizeof e->name, "%s", name);
  e->data = aligned_alloc(4096, 1 << 20);
  e->bytes = fread(e->data + (kind == ODD_MEMORY), 1, (1 << 20) - 1, file);
  const uint64_t step = kind < READER && steps[kind] ? steps[kind] : 64, end = (uint64_t)lseek(package, 0, SEEK_END);
  e->offset = (end / step + 1) * step + (kind == ODD);
  if (pwrite(package, e->data, e->bytes, (off_t)e->offset) != (ssize_t)e->bytes) exit(5);
  fclose(file);
  return e;
}

static int from_memory(void *user, uint64_t offset, void *out, uint64_t bytes) {
  const entry *e = user;
  if (kind >= GOOD || offset + bytes > e->bytes) return 1;
  return memcpy(out, e->data + offset, bytes), 0;
}

static int find(void *user, const char *name, tvm_flow_file *out) {
  const entry *e = load(name);
  if (user != &package || out->bytes || out->data || out->read || kind == GOOD || !e) return 1;
  *out = (tvm_flow_file){.bytes = e->bytes, .descriptor = package, .offset = e->offset, .read_user = (void *)e};
  if (kind <= ODD_MEMORY) out->data = e->data + (kind == ODD_MEMORY), out->descriptor = -1;
  if (kind == READER || kind == GOOD + 4) out->read = from_memory, out->descriptor = -1;
  if (kind == GOOD + 1) out->offset = 1 << 30;
  if (kind == GOOD + 2) out->offset = UINT64_MAX - 2;
  if (kind == GOOD + 3) out->bytes = UINT64_MAX - 2, out->data = e->data;
  if (kind == GOOD + 5) out->descriptor = folder;
  if (kind == GOOD + 6) out->descriptor = pipes[0];
  if (kind == GOOD + 7) out->bytes -= 1;
  return 0;
}

static void attempt(void) {
  const tvm_flow_options options = {.struct_bytes = sizeof options, .threads = 2, .find = find, .user = &package};
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  tvm_flow *flow;
  tvm_flow_decoder *decoder;
  float mask[64] = {0};
  const tvm_flow_prompt cond = {NULL, mask};
  tvm_flow_prompt null = {0};
  printf("%s: %d ", names[kind], tvm_flow_open("an asset", &options, &flow, &error));
  if (flow) printf("%d %d ", tvm_flow_verify(flow, &error), tvm_flow_null_prompt(flow, &cond, &null, &error));
  tvm_flow_close(flow), tvm_flow_prompt_close(&null);
  printf("%d ", tvm_flow_decoder_open("an asset", &options, &decoder, &error));
  if (decoder) printf("%d ", tvm_flow_decoder_verify(decoder, &error));
  tvm_flow_decoder_close(decoder);
  printf("%s\n", error.message);
}

int main(int argc, char **argv) {
  if (argc != 3 || pipe(pipes) != 0) return 2;
  bundle = argv[1];
  package = open(argv[2], O_RDWR | O_CREAT, 0600);
  folder = open(bundle, O_RDONLY | O_DIRECTORY);
  if (package < 0 || folder < 0) return 3;
  for (kind = 0; kind < (int)(sizeof names / sizeof *names); kind++) {
    attempt();
    while (num_entries > 0) free(entries[--num_entries].data);
  }
  return 0;
}
