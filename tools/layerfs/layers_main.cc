// layerfs-layers: what `layerfs` becomes for the commands on layers and images.
#include "tools/layerfs/main.h"

int main(int argc, char** argv) {
  return layerfs::main_with(argc, argv, layerfs::layer_commands(), {});
}
