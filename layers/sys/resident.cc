#include "layers/sys/resident.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "layers/sys/result.h"

namespace layerfs::sys {
namespace {

// In linux/mman.h of Linux 5.14.
constexpr int kPopulateRead = 22;
constexpr int kPopulateWrite = 23;

struct Advice {
  int advice;
  // The access of the segments that it is for, and which of its bits are looked at.
  ElfW(Word) access;
  ElfW(Word) looked_at;
};

void advise(std::uintptr_t begin, std::uintptr_t end, int advice) {
  const auto page = static_cast<std::uintptr_t>(::getpagesize());
  begin &= ~(page - 1);
  ignore(::madvise(reinterpret_cast<void*>(begin), end - begin, advice) < 0 ? Status(Errno::last())
                                                                            : Status(),
         "it costs time or memory");
}

void advise_segments(const Advice& advice) {
  const auto one_object = [](dl_phdr_info* object, std::size_t /*size*/, void* data) {
    const auto& what = *static_cast<const Advice*>(data);
    for (unsigned i = 0; i < object->dlpi_phnum; ++i) {
      const ElfW(Phdr)& segment = object->dlpi_phdr[i];
      if (segment.p_type == PT_LOAD && (segment.p_flags & what.looked_at) == what.access) {
        const std::uintptr_t begin = object->dlpi_addr + segment.p_vaddr;
        advise(begin, begin + segment.p_memsz, what.advice);
      }
    }
    return 0;
  };
  Advice copy = advice;
  ::dl_iterate_phdr(one_object, &copy);
}

}  // namespace

void map_code() { advise_segments({kPopulateRead, 0, PF_W}); }

void populate(void* begin, std::size_t bytes) {
  const auto first = reinterpret_cast<std::uintptr_t>(begin);
  advise(first, first + bytes, kPopulateWrite);
}

void populate_heap(std::size_t bytes) {
  if (void* const next = std::malloc(bytes); next != nullptr) {
    populate(next, bytes);
    std::free(next);
  }
}

// Others, even read-only ones, hold relocated addresses, which the file has not.
void release_code() { advise_segments({MADV_DONTNEED, PF_X, PF_X | PF_W}); }

}  // namespace layerfs::sys
