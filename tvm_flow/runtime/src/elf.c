#include <link.h>
#include <string.h>

#include "library.h"

static int inside(uint64_t offset, uint64_t bytes, uint64_t space) {
  return offset <= space && bytes <= space - offset;
}

/* The loader maps segments without looking at the file's size: a library that was cut short would end the process with
 * SIGBUS instead of an error. */
static int segments_fit(const flow_map *file) {
  ElfW(Ehdr) header;
  if (file->bytes < sizeof header) return 0;
  memcpy(&header, file->data, sizeof header);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof(ElfW(Phdr))) return 0;
  if (!inside(header.e_phoff, (uint64_t)header.e_phnum * sizeof(ElfW(Phdr)), file->bytes)) return 0;
  for (uint32_t i = 0; i < header.e_phnum; i++) {
    ElfW(Phdr) segment;
    memcpy(&segment, file->data + header.e_phoff + i * sizeof segment, sizeof segment);
    if (!inside(segment.p_offset, segment.p_filesz, file->bytes)) return 0;
  }
  return 1;
}

tvm_flow_status flow_check_elf(const char *path, const flow_map *file, tvm_flow_error *error) {
  if (segments_fit(file)) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_BAD_LIBRARY,
                   "%s: expected an ELF library of this word size, whole, got %llu bytes that are not; link it again",
                   path, (unsigned long long)file->bytes);
}
