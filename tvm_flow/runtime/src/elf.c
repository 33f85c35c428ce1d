#include "library.h"

#ifndef TVM_FLOW_NO_DLOPEN

#include <dlfcn.h>
#include <link.h>
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

tvm_flow_status flow_check_elf(const char *path, const flow_map *file, tvm_flow_error *error) {
  if (segments_fit(file)) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_BAD_LIBRARY,
                   "%s: expected an ELF library of this word size, whole, got %llu bytes that are not; link it again",
                   path, (unsigned long long)file->bytes);
}

/* Not memcmp: in a library built for the address sanitizer the space between globals is poisoned. */
__attribute__((no_sanitize("address")))
static int same_bytes(const uint8_t *one, const uint8_t *other, uint64_t bytes) {
  for (uint64_t i = 0; i < bytes; i++)
    if (one[i] != other[i]) return 0;
  return 1;
}

/* Segments that nothing writes to are in memory as they are in the file. */
static int is_loaded_from(const flow_map *file, const uint8_t *base) {
  const ElfW(Ehdr) header = read_header(file);
  for (uint32_t i = 0; i < header.e_phnum; i++) {
    const ElfW(Phdr) segment = read_segment(file, &header, i);
    if (segment.p_type != PT_LOAD || (segment.p_flags & (PF_R | PF_W)) != PF_R) continue;
    if (!same_bytes(base + segment.p_vaddr, file->data + segment.p_offset, segment.p_filesz)) return 0;
  }
  return 1;
}

tvm_flow_status flow_check_loaded(const char *path, const flow_map *file, const void *symbol, tvm_flow_error *error) {
  Dl_info where;
  /* In a static program nothing was loaded, and there is nothing to compare. Libraries are linked at address 0. */
  if (!dladdr(symbol, &where) || is_loaded_from(file, where.dli_fbase)) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_BAD_LIBRARY,
                   "%s: expected the code of this file, got that of an older one still open under the same path (or a "
                   "debugger's breakpoints in it); close the bundle that this one replaced, then open it again",
                   path);
}

#endif
