// What of a process is in memory, decided for all of it at once. In a virtual machine a page
// fault was measured to cost 7 to 25 us, and a page populated together with others 1.5: most
// of the start of a small program are its page faults.
#pragma once

#include <cstddef>

namespace layerfs::sys {

// Maps the code and constants of the program and its libraries, which are in the page cache if
// it is started often; and in a child of fork(2), which inherits no mapping of them, again.
// Linux 5.14 (MADV_POPULATE_READ); does nothing on an older one.
void map_code();

// Makes memory that is going to be written resident.
void populate(void* begin, std::size_t bytes);
// The same for the heap's next `bytes`: less than malloc's threshold for mappings of their own,
// 128 KiB.
void populate_heap(std::size_t bytes);

// Takes the code out of this process's resident memory: for one that has started what it is
// there for and waits. What runs afterwards is mapped again from the page cache.
void release_code();

}  // namespace layerfs::sys
