// One function for each command; `arguments` is what follows its name. Each returns the
// exit code and has printed what there is to say.
#pragma once

#include <span>
#include <string>

#include "tools/common/command_line.h"
#include "tools/layerfs/app.h"

namespace layerfs {

using Arguments = std::span<const std::string>;

int cmd_mount(Arguments arguments, const Streams& streams, const Environment& environment);
int cmd_umount(Arguments arguments, const Streams& streams, const Environment& environment);
int cmd_stats(Arguments arguments, const Streams& streams, const Environment& environment);
int cmd_unpack(Arguments arguments, const Streams& streams, const Environment& environment);
int cmd_store(Arguments arguments, const Streams& streams, const Environment& environment);
int cmd_squash(Arguments arguments, const Streams& streams, const Environment& environment);
int cmd_convert(Arguments arguments, const Streams& streams, const Environment& environment);
int cmd_check(Arguments arguments, const Streams& streams, const Environment& environment);
int cmd_commit(Arguments arguments, const Streams& streams, const Environment& environment);
int cmd_diff(Arguments arguments, const Streams& streams, const Environment& environment);
int cmd_which(Arguments arguments, const Streams& streams, const Environment& environment);

// mount.layerfs and mount.fuse.layerfs; `program` is the name to put before messages.
int mount_helper(const std::string& program, Arguments arguments, const Streams& streams,
                 const Environment& environment);

// What each understands, without the effects; for help and tests.
Command describe_mount();
Command describe_umount();
Command describe_stats();
Command describe_unpack();
Command describe_store();
Command describe_squash();
Command describe_convert();
Command describe_check();
Command describe_commit();
Command describe_diff();
Command describe_which();

}  // namespace layerfs
