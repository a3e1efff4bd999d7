#include "fs/fuse_session.h"

#include <linux/fuse.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "fs/fuse_init.h"
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

// Empty: unmounted, or the connection was aborted.
std::string_view receive_one(FuseContext& context, fuse_buf* buffer) {
  int received = 0;
  do {
    received = fuse_session_receive_buf(context.session, buffer);
  } while (received == -EINTR || received == -EAGAIN);
  return {static_cast<const char*>(buffer->mem), static_cast<std::size_t>(std::max(received, 0))};
}

void process(FuseContext& context, std::string_view message, fuse_buf* buffer) {
  if (const auto pass = context.gate.admit(message)) {
    fuse_session_process_buf(context.session, buffer);
  }
}

ReaderPool::Arrival arrival_of(std::string_view message, std::chrono::nanoseconds waited) {
  fuse_in_header header{};
  std::memcpy(&header, message.data(), std::min(message.size(), sizeof header));
  const bool slow = header.opcode == FUSE_FSYNC || header.opcode == FUSE_FSYNCDIR ||
                    header.opcode == FUSE_SYNCFS || header.opcode == FUSE_COPY_FILE_RANGE;
  return {waited, header.pid, slow};
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
  const std::string with_size = options + ",max_read=" + std::to_string(kReadBytes);
  std::vector<std::string> words = {"layerfs", "-o", with_size};
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
  const std::string_view message = receive_one(context, buffer.get());
  if (message.empty()) {
    return false;
  }
  process(context, message, buffer.get());
  return fuse_session_exited(context.session) == 0;
}

void serve_requests(FuseContext& context, ReaderPool& pool) {
  using Clock = std::chrono::steady_clock;
  // Without it each request's umask would be everybody's. Only memory can be missing.
  while (!sys::unshare_fs_attributes()) {
    if (fuse_session_exited(context.session) != 0) {
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  Buffer buffer;
  while (fuse_session_exited(context.session) == 0 && pool.begin_wait()) {
    const Clock::time_point begin = Clock::now();
    const std::string_view message = receive_one(context, buffer.get());
    if (message.empty()) {
      break;
    }
    pool.end_wait(arrival_of(message, Clock::now() - begin));
    process(context, message, buffer.get());
  }
  pool.close();
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
