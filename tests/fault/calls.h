// The system calls that are stopped at: those that change a layer and those that read one.
#pragma once

#include <linux/filter.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace layerfs::fault {

// Errors that a call of the kind can give where a filesystem is full, breaks or is remote.
enum class Kind {
  Open,   // of what is there; reads a layer
  Look,   // attributes, listings, targets; reads a layer
  Read,   // of data
  Name,   // makes, moves, removes a name, or opens with creation or truncation
  Mark,   // owner, mode, times, attributes
  Write,  // data and its length
  Sync,
};
inline constexpr bool changes(Kind kind) { return kind >= Kind::Name; }
const std::vector<int>& errors_of(Kind kind);

// One call that a stopped thread is about to make.
struct Call {
  std::uint64_t number = 0;
  std::uint64_t arguments[6] = {};
};

// Stops (SECCOMP_RET_TRACE) at all calls that classify() may know.
std::vector<sock_filter> filter_program();

// Whether `call` of thread `tid` is about a layer: not one of the daemon's own files, /proc
// or /dev/fuse. `base`: the directory that holds all layers.
bool classify(pid_t tid, const Call& call, const std::string& base, Kind& kind);

// Its name, and the path that it was given or of its descriptor, for a person.
std::string describe(pid_t tid, const Call& call);

}  // namespace layerfs::fault
