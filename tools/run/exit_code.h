// What layerfs-run exits with when the command did not decide it, as docker has it.
#pragma once

namespace layerfs::run {

constexpr int kLauncherFailed = 125;
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;
constexpr int kSignalBase = 128;

// What a shell makes of a wait status.
int exit_code_of(int wait_status);

}  // namespace layerfs::run
