// The exit codes of our programs. Scripts and other programs depend on them: a value
// keeps its meaning for ever, new ones are added at the end.
#pragma once

namespace layerfs {

enum class ExitCode {
  Ok = 0,
  Failure = 1,  // the request was understood and could not be carried out
  Usage = 2,    // the command line was not understood; nothing was tried
};

// The codes of a mount(8) helper, which mount(8) hands on unchanged (mount(8), EXIT STATUS).
enum class MountHelperCode {
  Ok = 0,
  Usage = 1,
  Failure = 32,
};

constexpr int to_int(ExitCode code) { return static_cast<int>(code); }
constexpr int to_int(MountHelperCode code) { return static_cast<int>(code); }

}  // namespace layerfs
