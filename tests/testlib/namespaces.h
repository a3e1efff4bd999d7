// A test that is killed takes its daemons and mounts with it.
#pragma once

namespace layerfs::testing {

// Runs the rest of the program in process and mount namespaces of its own and returns there;
// what calls it is the parent that waits. Where that is not permitted it says so and goes on.
// To be called before there are threads.
void enter_namespaces();

}  // namespace layerfs::testing
