/* Mutates inputs for a target, guided by the edges that it reaches and the numbers that it compares:
 *
 *   TARGET --inputs N --seed S [--keep FOLDER] [--last FILE] [CORPUS FILE...]   prints inputs, edges and kept inputs
 *   TARGET --flips FILE...                        every single flipped bit of a file must be refused; prints how many
 *
 * One process, no clock: N and S say all that happens. LAST has the input at hand, also after a crash. A target has the
 * interface of libFuzzer, with which clang builds it as well (-fsanitize=fuzzer in this file's place); it is compiled
 * with gcc's -fsanitize-coverage=trace-pc,trace-cmp, this file without. */
#include "driver.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { EDGES = 1 << 14, PAIRS = 512, MOST_KEPT = 4096, PATIENCE = 30 /* seconds for 256 inputs */ };

typedef struct {
  uint8_t *data;
  size_t bytes;
} input;

static uint8_t hits[EDGES], seen[EDGES];
static uint64_t pairs[PAIRS][2];
static uint32_t num_pairs;
static input kept[MOST_KEPT];
static uint32_t num_kept;
static uint64_t state;
static uint8_t *last; /* mapped: the length, then the bytes */
static const char *keep_folder;

__attribute__((weak)) size_t target_seed(uint8_t *out, size_t most) { return (void)out, (void)most, (size_t)0; }

static uint32_t draw(uint32_t below) { /* splitmix64 */
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (uint32_t)((z ^ (z >> 31)) % below);
}

/* What the instrumented code calls. */
void __sanitizer_cov_trace_pc(void) {
  static uint32_t before;
  const uint32_t here = (uint32_t)((uintptr_t)__builtin_return_address(0) * 0x9e3779b1u >> 8);
  uint8_t *hit = &hits[(here ^ before) % EDGES];
  *hit += *hit < 255;
  before = here >> 1;
}

static void note(uint64_t a, uint64_t b) {
  if (a == b) return;
  uint64_t *pair = pairs[num_pairs++ % PAIRS];
  pair[0] = a, pair[1] = b;
}

#define COMPARED(bits)                                                                                    \
  void __sanitizer_cov_trace_cmp##bits(uint64_t a, uint64_t b) { note(a, b); }                            \
  void __sanitizer_cov_trace_const_cmp##bits(uint64_t a, uint64_t b) { note(b, a); }
COMPARED(1) COMPARED(2) COMPARED(4) COMPARED(8)
void __sanitizer_cov_trace_cmpf(float a, float b) { (void)a, (void)b; }
void __sanitizer_cov_trace_cmpd(double a, double b) { (void)a, (void)b; }
void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases) {
  for (uint64_t i = 0; i < cases[0]; i++) note(value, cases[2 + i]);
}

static void keep(const uint8_t *data, size_t bytes, int fresh) {
  char path[4096];
  if (num_kept == MOST_KEPT) return;
  kept[num_kept] = (input){malloc(bytes + 1), bytes};
  memcpy(kept[num_kept++].data, data, bytes);
  if (!fresh || !keep_folder) return;
  snprintf(path, sizeof path, "%s/%05u", keep_folder, num_kept);
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file)) exit(3);
}

/* Whether it reached an edge, or one so often, as none did before. */
static int run(const uint8_t *data, size_t bytes) {
  int fresh = 0;
  if (last) memcpy(last, &bytes, sizeof bytes), memcpy(last + sizeof bytes, data, bytes);
  memset(hits, 0, sizeof hits);
  LLVMFuzzerTestOneInput(data, bytes);
  for (uint32_t i = 0; i < EDGES; i++) {
    if (!hits[i]) continue;
    uint8_t often = 1;
    while (hits[i] >> 1 >= often && often < 128) often = (uint8_t)(often << 1);
    fresh |= !(seen[i] & often);
    seen[i] |= often;
  }
  return fresh;
}

static void put(uint8_t *data, size_t bytes, uint64_t value) {
  const size_t wide = (size_t)1 << draw(4);
  if (bytes < wide) return;
  size_t at = draw((uint32_t)(bytes - wide + 1));
  if (draw(4)) at = at / wide * wide;
  memcpy(data + at, &value, wide);
}

/* A place that holds what was compared gets what it was compared with. */
static void meet(uint8_t *data, size_t bytes) {
  const uint64_t *pair = pairs[draw(num_pairs < PAIRS ? num_pairs : PAIRS)];
  const size_t wide = (size_t)1 << draw(4);
  const uint64_t wanted = pair[1] + (draw(4) ? 0 : draw(3) - 1);
  if (bytes < wide) return;
  const size_t from = draw((uint32_t)(bytes - wide + 1));
  for (size_t i = 0, at = from; i + wide <= bytes; i++, at = at + 1 + wide <= bytes ? at + 1 : 0)
    if (memcmp(data + at, &pair[0], wide) == 0) {
      memcpy(data + at, &wanted, wide);
      return;
    }
  put(data, bytes, wanted);
}

static size_t resize(uint8_t *data, size_t bytes) {
  if (draw(2) || bytes + 64 > MOST_INPUT) return bytes ? draw((uint32_t)bytes) : 0;
  const size_t more = 1 + draw(64), at = bytes ? draw((uint32_t)bytes) : 0;
  memmove(data + at + more, data + at, bytes - at);
  return bytes + more;
}

static size_t graft(uint8_t *data, size_t bytes) {
  const input *other = &kept[draw(num_kept)];
  if (!other->bytes || !bytes) return bytes;
  const size_t from = draw((uint32_t)other->bytes), at = draw(2) ? from % bytes : draw((uint32_t)bytes);
  size_t count = 1 + draw((uint32_t)(other->bytes - from));
  if (count > bytes - at) count = bytes - at;
  memcpy(data + at, other->data + from, count);
  return bytes;
}

static size_t mutate(uint8_t *data, size_t bytes) {
  static const uint64_t telling[] = {0,          1,           2,          0x7fffffff,          0x80000000,
                                     0xffffffff, 0x100000000, 0x7ff80000, 0x7fffffffffffffff, UINT64_MAX};
  for (uint32_t i = 1 + draw(4) * draw(3); i > 0; i--) {
    const uint32_t kind = draw(16);
    if (kind < 4 && bytes) data[draw((uint32_t)bytes)] ^= (uint8_t)(1u << draw(8));
    else if (kind < 6) put(data, bytes, telling[draw(sizeof telling / sizeof *telling)]);
    else if (kind < 8) put(data, bytes, draw(draw(2) ? 16 : 65536));
    else if (kind < 10 && bytes) data[draw((uint32_t)bytes)] += (uint8_t)(draw(2) ? draw(9) : -draw(9));
    else if (kind < 13 && num_pairs) meet(data, bytes);
    else if (kind < 15) bytes = graft(data, bytes);
    else if (draw(4) == 0) bytes = resize(data, bytes);
  }
  return bytes;
}

static size_t load(const char *path, uint8_t *data) {
  FILE *file = fopen(path, "rb");
  if (!file) exit(3);
  const size_t bytes = fread(data, 1, MOST_INPUT, file);
  fclose(file);
  return bytes;
}

static int flip(char **paths) {
  static uint8_t data[MOST_INPUT];
  long refused = 0;
  for (; *paths; paths++) {
    const size_t bytes = load(*paths, data);
    if (target_attempt(data, bytes)) return fprintf(stderr, "%s: refused as it is\n", *paths), 1;
    for (size_t bit = 0; bit < 8 * bytes; bit++, refused++) {
      data[bit / 8] ^= (uint8_t)(1u << bit % 8);
      if (!target_attempt(data, bytes)) return fprintf(stderr, "%s: bit %zu: accepted\n", *paths, bit), 1;
      data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
  }
  return printf("%ld\n", refused) < 0;
}

static void fuzz(long inputs, char **corpus) {
  static uint8_t data[MOST_INPUT];
  uint32_t edges = 0;
  size_t bytes = target_seed(data, sizeof data);
  keep(data, bytes, 0);
  for (; *corpus; corpus++) bytes = load(*corpus, data), keep(data, bytes, 0);
  for (uint32_t i = 0; i < num_kept; i++) run(kept[i].data, kept[i].bytes);
  const uint32_t given = num_kept;
  for (long i = 0; i < inputs; i++) {
    if (i % 256 == 0) alarm(PATIENCE);
    const input *from = &kept[draw(2) ? draw(num_kept) : num_kept - 1 - draw(num_kept < 16 ? num_kept : 16)];
    memcpy(data, from->data, from->bytes);
    bytes = mutate(data, from->bytes);
    if (run(data, bytes)) keep(data, bytes, 1);
  }
  for (uint32_t i = 0; i < EDGES; i++) edges += seen[i] != 0;
  printf("%ld %u %u\n", inputs, edges, num_kept - given);
  while (num_kept > 0) free(kept[--num_kept].data);
}

int main(int argc, char **argv) {
  long inputs = 1000;
  int at = 1;
  if (argc > 2 && strcmp(argv[1], "--flips") == 0) return flip(argv + 2);
  for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
    if (strcmp(argv[at], "--inputs") == 0) inputs = atol(argv[at + 1]);
    else if (strcmp(argv[at], "--seed") == 0) state = strtoull(argv[at + 1], NULL, 10);
    else if (strcmp(argv[at], "--keep") == 0) keep_folder = argv[at + 1];
    else if (strcmp(argv[at], "--last") == 0) {
      const int file = open(argv[at + 1], O_RDWR | O_CREAT | O_TRUNC, 0666);
      if (file < 0 || ftruncate(file, sizeof(size_t) + MOST_INPUT)) return 3;
      last = mmap(NULL, sizeof(size_t) + MOST_INPUT, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      if (last == MAP_FAILED || close(file)) return 3;
    } else return 2;
  }
  fuzz(inputs, argv + at);
  return 0;
}
