#include "fs/fuse_session.h"

#include <cstdlib>
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

// False: unmounted, or the connection was aborted.
bool serve_one(FuseContext& context, fuse_buf* buffer) {
  fuse_session* session = context.session;
  int received = 0;
  do {
    received = fuse_session_receive_buf(session, buffer);
  } while (received == -EINTR || received == -EAGAIN);
  if (received <= 0) {
    return false;
  }
  const std::string_view message(static_cast<const char*>(buffer->mem),
                                 static_cast<std::size_t>(received));
  if (const auto pass = context.gate.admit(message)) {
    fuse_session_process_buf(session, buffer);
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

bool serve_init(FuseContext& context) {
  Buffer buffer;
  return serve_one(context, buffer.get()) && fuse_session_exited(context.session) == 0;
}

void serve_requests(FuseContext& context) {
  ignore(sys::unshare_fs_attributes(), "the mount was refused if it cannot be had");
  Buffer buffer;
  while (fuse_session_exited(context.session) == 0 && serve_one(context, buffer.get())) {
  }
}

void serve_kept(FuseContext& context, const FreezeGate::Kept& kept) {
  for (const std::string& message : kept) {
    std::string bytes = message;
    fuse_buf buffer{};
    buffer.mem = bytes.data();
    buffer.size = bytes.size();
    fuse_session_process_buf(context.session, &buffer);
  }
}

}  // namespace layerfs
