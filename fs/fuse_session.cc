#include "fs/fuse_session.h"

#include <linux/fuse.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "layers/sys/syscalls.h"

namespace layerfs {
namespace {

constexpr double kForever = 1e9;  // seconds; the kernel clamps what its clock cannot hold

class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { std::free(buffer_.mem); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  fuse_buf* get() { return &buffer_; }

 private:
  fuse_buf buffer_{};
};

// The thread that waits for the answer, 0 if none does.
pid_t client_of(const fuse_buf& request, int size) {
  fuse_in_header header{};
  if ((request.flags & FUSE_BUF_IS_FD) != 0 || static_cast<std::size_t>(size) < sizeof(header)) {
    return 0;
  }
  std::memcpy(&header, request.mem, sizeof(header));
  return static_cast<pid_t>(header.pid);
}

// False: unmounted, or the connection was aborted.
bool serve_one(fuse_session* session, fuse_buf* buffer, ClientFollower* follower) {
  int received = 0;
  do {
    received = fuse_session_receive_buf(session, buffer);
  } while (received == -EINTR || received == -EAGAIN);
  if (received <= 0) {
    return false;
  }
  if (follower != nullptr) {
    follower->request_of(client_of(*buffer, received), ClientFollower::Clock::now());
  }
  fuse_session_process_buf(session, buffer);
  if (follower != nullptr) {
    follower->settle();
  }
  return true;
}

}  // namespace

FuseSettings fuse_settings(const MountConfig& config, const OpenedLayers& layers) {
  FuseSettings settings;
  settings.io = config.io == MountConfig::Io::Passthrough ? IoMode::Passthrough : IoMode::Cached;
  settings.timeout = config.timeout < 0 ? kForever : config.timeout;
  settings.acl = config.acl;
  settings.xattrs = config.xattrs;
  if (layers.fs->upper() != nullptr && layers.form == WhiteoutForm::DotWh) {
    settings.name_max -= static_cast<unsigned>(kWhiteoutPrefix.size());
  }
  return settings;
}

FuseSessionPtr make_fuse_session(FuseContext& context, const std::string& options) {
  std::vector<std::string> words = {"layerfs", "-o", options};
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  fuse_args args = FUSE_ARGS_INIT(static_cast<int>(argv.size()), argv.data());
  const fuse_lowlevel_ops& operations = fuse_operations();
  FuseSessionPtr session(fuse_session_new(&args, &operations, sizeof(operations), &context));
  fuse_opt_free_args(&args);
  context.session = session.get();
  return session;
}

bool serve_init(fuse_session* session) {
  Buffer buffer;
  return serve_one(session, buffer.get(), nullptr) && fuse_session_exited(session) == 0;
}

void serve_requests(fuse_session* session, ClientFollower* follower) {
  ignore(sys::unshare_fs_attributes(), "the mount was refused if it cannot be had");
  Buffer buffer;
  while (fuse_session_exited(session) == 0 && serve_one(session, buffer.get(), follower)) {
  }
}

}  // namespace layerfs
