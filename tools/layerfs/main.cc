// The program `layerfs`, also under the names mount.layerfs and mount.fuse.layerfs. The daemon is
// in it: starting another program takes a tenth of the time of a mount.
#include "tools/layerfs/main.h"

#include "fs/serve.h"

int main(int argc, char** argv) {
  using namespace layerfs;
  const auto start = [](const MountConfig& config, DaemonStart how) {
    how.serve = serve_mount;
    return start_daemon(config, how);
  };
  return main_with(argc, argv, mount_commands(), {.start_daemon = start});
}
