#include <stdio.h>
#include <string.h>

#include "library.h"

enum { NAME_BYTES = 32 };

/* Names differ between LLVM and Linux by punctuation: avxvnni, avx_vnni; sse4.2, sse4_2; LLVM may lead with a plus. */
static void plain_name(const char *text, size_t length, char out[NAME_BYTES]) {
  size_t used = 0;
  for (size_t i = 0; i < length && used + 1 < NAME_BYTES; i++)
    if (!strchr("._+-", text[i])) out[used++] = text[i];
  out[used] = 0;
}

#if defined(__aarch64__)
#include <sys/auxv.h>

/* From Linux's uapi/asm/hwcap.h for arm64. */
static int cpu_has(const char *name) {
  static const struct {
    const char *name;
    unsigned long type, bit;
  } known[] = {{"fparmv8", AT_HWCAP, 0},  {"neon", AT_HWCAP, 1},      {"asimd", AT_HWCAP, 1},
               {"aes", AT_HWCAP, 3},      {"sha2", AT_HWCAP, 6},      {"crc", AT_HWCAP, 7},
               {"lse", AT_HWCAP, 8},      {"atomics", AT_HWCAP, 8},   {"fphp", AT_HWCAP, 9},
               {"fullfp16", AT_HWCAP, 10}, {"asimdhp", AT_HWCAP, 10}, {"rdm", AT_HWCAP, 12},
               {"rcpc", AT_HWCAP, 15},    {"dotprod", AT_HWCAP, 20},  {"asimddp", AT_HWCAP, 20},
               {"sve", AT_HWCAP, 22},     {"fp16fml", AT_HWCAP, 23},  {"sve2", AT_HWCAP2, 1},
               {"i8mm", AT_HWCAP2, 13},   {"bf16", AT_HWCAP2, 14}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strcmp(known[i].name, name) == 0) return (int)(getauxval(known[i].type) >> known[i].bit & 1);
  return 0;
}
#elif defined(__x86_64__) || defined(__i386__)
static int word_matches(const char *word, const char *name) {
  static const char *const aliases[][2] = {{"sse3", "pni"}, {"lzcnt", "abm"}, {"bmi", "bmi1"}, {"pclmul", "pclmulqdq"}};
  char plain[NAME_BYTES];
  plain_name(word, strlen(word), plain);
  if (strcmp(plain, name) == 0) return 1;
  for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
    if (strcmp(aliases[i][0], name) == 0 && strcmp(aliases[i][1], plain) == 0) return 1;
  return 0;
}

/* The kernel's list also says what the operating system saves, which cpuid alone does not. */
static int cpu_has(const char *name) {
  char word[NAME_BYTES];
  int in_flags = 0, found = 0;
  FILE *file = fopen("/proc/cpuinfo", "re");
  if (!file) return 0;
  while (!found && fscanf(file, "%31s", word) == 1) {
    found = in_flags && word_matches(word, name);
    if (in_flags && fgetc(file) == '\n') break;
    if (strcmp(word, "flags") == 0) in_flags = 1;
  }
  fclose(file);
  return found;
}
#else
static int cpu_has(const char *name) { return name == NULL; }
#endif

tvm_flow_status flow_check_cpu(const char *path, const char *features, tvm_flow_error *error) {
  char name[NAME_BYTES];
  if (!features) return TVM_FLOW_OK;
  for (const char *at = features + strspn(features, " "); *at; at += strspn(at, " ")) {
    size_t length = strcspn(at, " ");
    plain_name(at, length, name);
    if (!cpu_has(name))
      return flow_fail(error, TVM_FLOW_WRONG_CPU,
                       "%s: its kernels use %.*s, which this processor does not report; compile for another target",
                       path, (int)length, at);
    at += length;
  }
  return TVM_FLOW_OK;
}
