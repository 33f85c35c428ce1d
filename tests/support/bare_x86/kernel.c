/* What a static x86-64 program needs of Linux to read files, allocate memory and write to its streams, on one core and
 * in ring 0, with no interrupts. The program, its arguments and its files come as one multiboot module: see
 * `support.emulated_x86`. Each write goes to port 0xE9 as a record: a byte (1 or 2, or 0xFF for the exit), 4 bytes of
 * length, and as many; the exit's are its code. What it does not know is told on stream 2 and refused. */
#include <stddef.h>
#include <stdint.h>

#define MIB (1024ull * 1024)
#define FILES ((char *)(160 * MIB))
#define STACK_END ((char *)(160 * MIB))
#define HEAP_END (144 * MIB)

typedef struct {
  char name[240];
  uint64_t bytes, offset;
} entry;
typedef struct {
  uint64_t base, bytes;
} part;

void enter(uint64_t start, void *stack);
static uint64_t heap = 32 * MIB;
static const entry *entries;
static uint64_t count;
static const entry *opened[64];
static uint64_t position[64];

void *memset(void *to, int value, size_t bytes) {
  void *at = to;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
  return to;
}
void *memcpy(void *to, const void *from, size_t bytes) {
  void *at = to;
  __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
  return to;
}
static int equal(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}
static void put(const void *from, uint64_t bytes) {
  __asm__ volatile("rep outsb" : "+S"(from), "+c"(bytes) : "d"(0xE9) : "memory");
}
static void record(uint8_t stream, const void *from, uint64_t bytes) {
  uint32_t length = (uint32_t)bytes;
  put(&stream, 1), put(&length, 4), put(from, bytes);
}
static void leave(uint32_t code) {
  record(0xFF, &code, 4);
  for (;;) __asm__ volatile("cli; hlt");
}
static const entry *find(const char *name) {
  for (uint64_t i = 0; i < count; i++)
    if (equal(entries[i].name, name)) return &entries[i];
  return 0;
}
static int64_t take(uint64_t file, void *to, uint64_t bytes, uint64_t at) {
  if (file >= 64 || !opened[file]) return -9;
  uint64_t left = at < opened[file]->bytes ? opened[file]->bytes - at : 0;
  if (bytes > left) bytes = left;
  memcpy(to, FILES + opened[file]->offset + at, bytes);
  return (int64_t)bytes;
}
static int64_t next(uint64_t file, void *to, uint64_t bytes) {
  int64_t got = take(file, to, bytes, file < 64 ? position[file] : 0);
  if (got > 0) position[file] += (uint64_t)got;
  return got;
}
static int64_t open_file(const char *name) {
  const entry *found = find(name);
  if (!found) return -2;
  for (int64_t i = 3; i < 64; i++)
    if (!opened[i]) return opened[i] = found, position[i] = 0, i;
  return -24;
}
static int64_t map(uint64_t wanted, uint64_t bytes, uint64_t flags, uint64_t file, uint64_t at) {
  uint64_t start = flags & 0x10 ? wanted : heap, rounded = (bytes + 4095) & ~4095ull; /* MAP_FIXED */
  if (!(flags & 0x10) && rounded > HEAP_END - heap) return -12;
  if (!(flags & 0x10)) heap += rounded;
  memset((void *)start, 0, rounded);
  if (!(flags & 0x20) && take(file, (void *)start, bytes, at) < 0) return -9; /* MAP_ANONYMOUS */
  return (int64_t)start;
}
static int64_t status(uint64_t file, char *to) {
  if (file >= 64 || !opened[file]) return -9;
  memset(to, 0, 144);
  *(uint32_t *)(to + 24) = 0100644;
  *(uint64_t *)(to + 48) = opened[file]->bytes;
  return 0;
}
static int64_t vectors(uint64_t file, const part *parts, uint64_t number, int writes) {
  int64_t sum = 0;
  for (uint64_t i = 0; i < number; i++) {
    int64_t got = (int64_t)parts[i].bytes;
    if (writes) record((uint8_t)file, (void *)parts[i].base, parts[i].bytes);
    else got = next(file, (void *)parts[i].base, parts[i].bytes);
    if (got < 0) return got;
    sum += got;
  }
  return sum;
}
static void set_thread(uint64_t address) {
  __asm__ volatile("wrmsr" : : "c"(0xC0000100), "a"((uint32_t)address), "d"((uint32_t)(address >> 32)));
}
int64_t serve(uint64_t number, const uint64_t *a) {
  switch (number) {
  case 0: return next(a[0], (void *)a[1], a[2]);
  case 1: return record((uint8_t)a[0], (void *)a[1], a[2]), (int64_t)a[2];
  case 2: return open_file((const char *)a[0]);
  case 3: return a[0] < 64 ? opened[a[0]] = 0, 0 : -9;
  case 5: return status(a[0], (char *)a[1]);
  case 9: return map(a[0], a[1], a[3], a[4], a[5]);
  case 10: case 11: case 13: case 14: case 28: case 72: return 0; /* mprotect, munmap, signals, madvise, fcntl */
  case 12: return 0;   /* brk: there is none, so the C library maps */
  case 16: return -25; /* ioctl: not a terminal */
  case 17: return take(a[0], (void *)a[1], a[2], a[3]);
  case 19: case 20: return vectors(a[0], (const part *)a[1], a[2], number == 20);
  case 39: case 186: case 218: return 1; /* getpid, gettid, set_tid_address */
  case 60: case 231: leave((uint32_t)a[0]); return 0;
  case 138: memset((void *)a[1], 0, 120); return 0; /* fstatfs */
  case 158: return a[0] == 0x1002 ? set_thread(a[1]), 0 : -22;
  case 204: memset((void *)a[2], 0, a[1]); *(char *)a[2] = 1; return 8; /* sched_getaffinity: one core */
  case 228: memset((void *)a[1], 0, 16); return 0;                     /* clock_gettime: time stands still */
  default: {
    char words[] = "system call 000 is not known to the emulated machine\n";
    for (int i = 14; i > 11; i--, number /= 10) words[i] = (char)('0' + number % 10);
    record(2, words, sizeof words - 1);
    return -38;
  }
  }
}

/* Of ELF64: a file's header at these offsets, then its program headers of 56 bytes. */
static uint64_t load(const char *image, uint64_t *headers) {
  uint64_t at = *(const uint64_t *)(image + 32), number = *(const uint16_t *)(image + 56);
  for (uint64_t i = 0; i < number; i++) {
    const char *header = image + at + 56 * i;
    const uint64_t *sizes = (const uint64_t *)(header + 8); /* offset, address, physical, bytes, memory */
    if (*(const uint32_t *)header == 6) *headers = sizes[1];
    if (*(const uint32_t *)header != 1) continue;
    memset((void *)sizes[1], 0, sizes[4]);
    memcpy((void *)sizes[1], image + sizes[0], sizes[3]);
  }
  headers[1] = number;
  return *(const uint64_t *)(image + 24);
}
void run(const uint32_t *multiboot) {
  const uint32_t *module = (const uint32_t *)(uint64_t)multiboot[6];
  put("\n<machine>", 10);
  uint64_t bytes = module[1] - module[0];
  memcpy(FILES, (const char *)(uint64_t)module[0], bytes);
  count = *(const uint64_t *)FILES, entries = (const entry *)(FILES + 8);
  opened[0] = find("<stdin>");
  const entry *program = find("<program>"), *words = find("<arguments>");
  uint64_t headers[2] = {0, 0}, start = load(FILES + program->offset, headers);
  char *text = FILES + words->offset;
  uint64_t *stack = (uint64_t *)(STACK_END - 65536), *top = stack + 1;
  for (uint64_t i = 0; i < words->bytes; i++)
    if (i == 0 || !text[i - 1]) *top++ = (uint64_t)(text + i);
  *stack = (uint64_t)(top - stack - 1);
  *top++ = 0, *top++ = 0; /* of arguments, of the environment, which is empty */
  const uint64_t auxiliary[] = {3, headers[0], 4, 56, 5, headers[1], 6, 4096, 25, (uint64_t)FILES, 0, 0};
  memcpy(top, auxiliary, sizeof auxiliary);
  enter(start, stack);
}
