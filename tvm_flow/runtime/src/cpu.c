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

/* The tables name what tvm_flow/target/feature_names.py lets a target use, without punctuation, and some aliases. */

#if defined(__aarch64__)
#include "platform.h"

/* Bits from Linux's uapi/asm/hwcap.h for arm64. LLVM's aes means PMULL too, its sha2 SHA1, its sha3 SHA512. */
static int cpu_has(const char *name) {
  static const struct {
    char name[10]; /* no pointer: it would be relocated */
    uint8_t type, bit, also;
  } known[] = {{"fparmv8", AT_HWCAP, 0, 0},   {"neon", AT_HWCAP, 1, 1},      {"asimd", AT_HWCAP, 1, 1},
               {"aes", AT_HWCAP, 3, 4},       {"sha2", AT_HWCAP, 6, 5},      {"crc", AT_HWCAP, 7, 7},
               {"lse", AT_HWCAP, 8, 8},       {"atomics", AT_HWCAP, 8, 8},   {"fphp", AT_HWCAP, 9, 10},
               {"fullfp16", AT_HWCAP, 10, 9}, {"asimdhp", AT_HWCAP, 10, 9},  {"rdm", AT_HWCAP, 12, 12},
               {"jsconv", AT_HWCAP, 13, 13},  {"complxnum", AT_HWCAP, 14, 14}, {"rcpc", AT_HWCAP, 15, 15},
               {"sha3", AT_HWCAP, 17, 21},    {"dotprod", AT_HWCAP, 20, 20}, {"asimddp", AT_HWCAP, 20, 20},
               {"sve", AT_HWCAP, 22, 22},     {"fp16fml", AT_HWCAP, 23, 23}, {"lse2", AT_HWCAP, 25, 25},
               {"rcpcimmo", AT_HWCAP, 26, 26}, {"flagm", AT_HWCAP, 27, 27},  {"sve2", AT_HWCAP2, 1, 1},
               {"fptoint", AT_HWCAP2, 8, 8},  {"i8mm", AT_HWCAP2, 13, 13},   {"bf16", AT_HWCAP2, 14, 14}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (strcmp(known[i].name, name) != 0) continue;
    unsigned long word = getauxval(known[i].type);
    return (int)(word >> known[i].bit & word >> known[i].also & 1);
  }
  return 0;
}
#elif defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

enum { EAX, EBX, ECX, EDX };
/* What the operating system saves of a register: SSE and AVX state; opmask and the two parts of ZMM as well. */
enum { NO_STATE = 0, YMM = 0x6, ZMM = 0xe6, OSXSAVE = 27 };

static unsigned saved_state(void) {
  unsigned word[4] = {0}, low, high;
  if (!__get_cpuid_count(1, 0, word, word + 1, word + 2, word + 3) || !(word[ECX] >> OSXSAVE & 1)) return 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

/* From Intel's and AMD's manuals of CPUID; a feature counts only if the system saves the registers that it uses. */
static int cpu_has(const char *name) {
  static const struct {
    char name[16]; /* no pointer: it would be relocated */
    unsigned leaf;
    uint8_t part, word, bit, state;
  } known[] = {
      {"sse3", 1, 0, ECX, 0, NO_STATE},
      {"pclmul", 1, 0, ECX, 1, NO_STATE},
      {"ssse3", 1, 0, ECX, 9, NO_STATE},
      {"fma", 1, 0, ECX, 12, YMM},
      {"cx16", 1, 0, ECX, 13, NO_STATE},
      {"sse41", 1, 0, ECX, 19, NO_STATE},
      {"sse42", 1, 0, ECX, 20, NO_STATE},
      {"crc32", 1, 0, ECX, 20, NO_STATE},
      {"movbe", 1, 0, ECX, 22, NO_STATE},
      {"popcnt", 1, 0, ECX, 23, NO_STATE},
      {"aes", 1, 0, ECX, 25, NO_STATE},
      {"avx", 1, 0, ECX, 28, YMM},
      {"f16c", 1, 0, ECX, 29, YMM},
      {"sse2", 1, 0, EDX, 26, NO_STATE},
      {"bmi", 7, 0, EBX, 3, NO_STATE},
      {"avx2", 7, 0, EBX, 5, YMM},
      {"bmi2", 7, 0, EBX, 8, NO_STATE},
      {"avx512f", 7, 0, EBX, 16, ZMM},
      {"avx512dq", 7, 0, EBX, 17, ZMM},
      {"adx", 7, 0, EBX, 19, NO_STATE},
      {"avx512ifma", 7, 0, EBX, 21, ZMM},
      {"avx512cd", 7, 0, EBX, 28, ZMM},
      {"sha", 7, 0, EBX, 29, NO_STATE},
      {"avx512bw", 7, 0, EBX, 30, ZMM},
      {"avx512vl", 7, 0, EBX, 31, ZMM},
      {"avx512vbmi", 7, 0, ECX, 1, ZMM},
      {"avx512vbmi2", 7, 0, ECX, 6, ZMM},
      {"gfni", 7, 0, ECX, 8, NO_STATE},
      {"vaes", 7, 0, ECX, 9, YMM},
      {"vpclmulqdq", 7, 0, ECX, 10, YMM},
      {"avx512vnni", 7, 0, ECX, 11, ZMM},
      {"avx512bitalg", 7, 0, ECX, 12, ZMM},
      {"avx512vpopcntdq", 7, 0, ECX, 14, ZMM},
      {"avx512fp16", 7, 0, EDX, 23, ZMM},
      {"avxvnni", 7, 1, EAX, 4, YMM},
      {"avx512bf16", 7, 1, EAX, 5, ZMM},
      {"sahf", 0x80000001, 0, ECX, 0, NO_STATE},
      {"lzcnt", 0x80000001, 0, ECX, 5, NO_STATE},
      {"sse4a", 0x80000001, 0, ECX, 6, NO_STATE},
  };
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    unsigned word[4] = {0}, most = 0, state = known[i].state;
    if (strcmp(known[i].name, name) != 0) continue;
    if (known[i].part && (!__get_cpuid_count(known[i].leaf, 0, &most, word + 1, word + 2, word + 3) ||
                          most < known[i].part))
      return 0;
    if (!__get_cpuid_count(known[i].leaf, known[i].part, word, word + 1, word + 2, word + 3)) return 0;
    return (word[known[i].word] >> known[i].bit & 1) && (!state || (saved_state() & state) == state);
  }
  return 0;
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
