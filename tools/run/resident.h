#pragma once

namespace layerfs::run {

// Takes the program's and its libraries' code out of this process's resident memory: for one
// that has started what it is there for and waits. What runs afterwards is mapped again from
// the page cache, some µs each 64 KiB.
void release_code();

}  // namespace layerfs::run
