// The program `layerfs`, also under the names mount.layerfs and mount.fuse.layerfs.
#include "tools/layerfs/main.h"

int main(int argc, char** argv) {
  return layerfs::main_with(argc, argv, layerfs::mount_commands());
}
