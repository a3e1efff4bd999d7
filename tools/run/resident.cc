#include "tools/run/resident.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layers/sys/result.h"

namespace layerfs::run {

void release_code() {
  const auto release = [](dl_phdr_info* object, std::size_t /*size*/, void* /*unused*/) {
    const auto page = static_cast<std::uintptr_t>(::getpagesize());
    for (unsigned i = 0; i < object->dlpi_phnum; ++i) {
      const ElfW(Phdr)& segment = object->dlpi_phdr[i];
      // Others, even read-only ones, hold relocated addresses, which the file has not.
      if (segment.p_type != PT_LOAD || (segment.p_flags & (PF_X | PF_W)) != PF_X) {
        continue;
      }
      const std::uintptr_t begin = (object->dlpi_addr + segment.p_vaddr) & ~(page - 1);
      const std::uintptr_t end = object->dlpi_addr + segment.p_vaddr + segment.p_memsz;
      ignore(::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED) < 0
                 ? Status(Errno::last())
                 : Status(),
             "it stays resident");
    }
    return 0;
  };
  ::dl_iterate_phdr(release, nullptr);
}

}  // namespace layerfs::run
