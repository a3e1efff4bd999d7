// From FUSE requests to the file system and back: the one place that knows requests,
// and where errors become errno values and nothing is thrown past.
#pragma once

#include <fuse_lowlevel.h>

#include <memory>

#include "fs/file_system.h"
#include "fs/freeze_gate.h"
#include "fs/open_modes.h"
#include "fs/statistics.h"

namespace layerfs {

enum class IoMode {
  // No request to open, close or read again; the kernel gathers writes.
  Cached,
  // The kernel reads and writes upper files itself.
  Passthrough,
};

struct FuseSettings {
  IoMode io = IoMode::Cached;
  double timeout = 0;  // seconds, of entries and attributes
  bool acl = true;
  bool xattrs = true;
  // Bytes a name may have: fewer where a whiteout needs room for its prefix.
  unsigned name_max = 255;
};

// What one session's handlers share. Lives as long as the session.
struct FuseContext {
  FuseContext(FileSystem& file_system, FuseSettings wanted)
      : fs(file_system), settings(wanted), open_modes(file_system), gate(file_system) {}

  FileSystem& fs;
  FuseSettings settings;
  Statistics statistics;
  OpenModes open_modes;
  FreezeGate gate;
  fuse_session* session = nullptr;
  bool passthrough_granted = false;
  // The kernel takes ENOSYS to OPEN (OPENDIR) for: do not ask again, all is well.
  bool no_open = false;
  bool no_opendir = false;
  unsigned proto_major = 0;
  unsigned proto_minor = 0;
};

const fuse_lowlevel_ops& fuse_operations();

}  // namespace layerfs
