#include "library.h"

#ifndef TVM_FLOW_NO_DLOPEN

#include <link.h>
#include <stddef.h>
#include <string.h>


static int inside(uint64_t offset, uint64_t bytes, uint64_t space) {
  return offset <= space && bytes <= space - offset;
}

static ElfW(Ehdr) read_header(const flow_map *file) {
  ElfW(Ehdr) header;
  memcpy(&header, file->data, sizeof header);
  return header;
}

static ElfW(Phdr) read_segment(const flow_map *file, const ElfW(Ehdr) *header, uint32_t i) {
  ElfW(Phdr) segment;
  memcpy(&segment, file->data + header->e_phoff + i * sizeof segment, sizeof segment);
  return segment;
}

/* The loader maps segments without looking at the file's size: a library that was cut short would end the process with
 * SIGBUS instead of an error. */
static int segments_fit(const flow_map *file) {
  if (file->bytes < sizeof(ElfW(Ehdr))) return 0;
  const ElfW(Ehdr) header = read_header(file);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof(ElfW(Phdr))) return 0;
  if (!inside(header.e_phoff, (uint64_t)header.e_phnum * sizeof(ElfW(Phdr)), file->bytes)) return 0;
  for (uint32_t i = 0; i < header.e_phnum; i++) {
    const ElfW(Phdr) segment = read_segment(file, &header, i);
    if (!inside(segment.p_offset, segment.p_filesz, file->bytes)) return 0;
  }
  return 1;
}

#if defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#elif defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__i386__)
enum { MACHINE = EM_386 };
#elif defined(__arm__)
enum { MACHINE = EM_ARM };
#else
enum { MACHINE = EM_NONE }; /* not known: the loader checks it */
#endif

static const char *machine_name(unsigned machine) {
  return machine == EM_AARCH64  ? "aarch64"
         : machine == EM_X86_64 ? "x86_64"
         : machine == EM_386    ? "i386"
         : machine == EM_ARM    ? "arm"
                                : "another";
}

/* e_machine lies at one place in files of both word sizes. */
static unsigned machine_of(const flow_map *file) {
  ElfW(Half) machine = MACHINE;
  if (file->bytes >= sizeof(Elf32_Ehdr) && memcmp(file->data, ELFMAG, SELFMAG) == 0)
    memcpy(&machine, file->data + offsetof(Elf32_Ehdr, e_machine), sizeof machine);
  return machine;
}

tvm_flow_status flow_check_elf(const char *path, const flow_map *file, tvm_flow_error *error) {
  const unsigned found = machine_of(file);
  if (MACHINE != EM_NONE && found != MACHINE)
    return flow_fail(error, FLOW_FOR(BAD_LIBRARY, WRONG_ARCHITECTURE),
                     "%s: expected a library for %s, got one for %s (ELF machine %u); compile the bundle for this "
                     "machine", path, machine_name(MACHINE), machine_name(found), found);
  if (segments_fit(file)) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_BAD_LIBRARY,
                   "%s: expected an ELF library of this word size, whole, got %llu bytes that are not; link it again",
                   path, (unsigned long long)file->bytes);
}

#endif
