// A libfuse session over a context, and the loop that serves it. Where its requests come
// from, a mount or any other descriptor, is the caller's business.
#pragma once

#include <fuse_lowlevel.h>

#include <memory>
#include <string>

#include "fs/fuse_ops.h"
#include "fs/layer_setup.h"
#include "fs/reader_pool.h"
#include "layers/mount_config.h"

namespace layerfs {

struct FuseSessionDeleter {
  void operator()(fuse_session* session) const { fuse_session_destroy(session); }
};
using FuseSessionPtr = std::unique_ptr<fuse_session, FuseSessionDeleter>;

// What a session is to ask the kernel for.
FuseSettings fuse_settings(const MountConfig& config, const OpenedLayers& layers);

// `options` as after mount's -o. nullptr: libfuse does not understand one of them. The
// context must outlive the session.
FuseSessionPtr make_fuse_session(FuseContext& context, const std::string& options);

// Serves a mount's first request. False: the connection ended before, or libfuse does not
// speak the kernel's protocol.
bool serve_init(FuseContext& context);

// Serves requests in the calling thread, one of the pool's, which gets filesystem attributes
// of its own (sys::unshare_fs_attributes), until the connection ends.
void serve_requests(FuseContext& context, ReaderPool& pool);
// Serves what the gate kept back, in the calling thread, which needs such attributes too.
void serve_kept(FuseContext& context, const FreezeGate::Kept& kept);

}  // namespace layerfs
