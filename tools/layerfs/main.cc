// The program `layerfs`, also under the names mount.layerfs, mount.fuse.layerfs and
// layerfs-overlay.
#include "tools/layerfs/main.h"

int main(int argc, char** argv) {
  return layerfs::main_with(argc, argv, layerfs::mount_commands());
}
