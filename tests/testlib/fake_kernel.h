// The kernel's side of the FUSE protocol, in the test's own process: the session's real
// code is driven by requests made here, on a socket pair in place of /dev/fuse.
//
// The descriptor is handed to libfuse as the mount point /dev/fd/N, which every version
// takes; fuse_session_custom_io() would do the same, but is compiled out of some.
//
// Like the kernel's, the lengths of requests are true and names end in a zero byte:
// libfuse does not check them again, so a request that lies about them tests libfuse.
#pragma once

#include <linux/fuse.h>
#include <sys/types.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <vector>

#include "fs/fuse_session.h"
#include "fs/layer_setup.h"

namespace layerfs::testing {

// Flags of INIT that the linux/fuse.h of Debian 12 lacks (Linux 6.18, the same file).
inline constexpr std::uint64_t kFusePassthrough = 1ULL << 37U;
inline constexpr std::uint64_t kFuseNoExportSupport = 1ULL << 38U;

// What a kernel offers at INIT.
struct Ability {
  std::uint32_t minor;  // of protocol version 7
  std::uint64_t flags;
};
// Of those that layerfs can run on, the oldest (openat2(2) is of 5.6), and later ones
// that brought something (fs/fuse/inode.c: fuse_send_init).
extern const Ability kLinux_5_6;
extern const Ability kLinux_5_11;
extern const Ability kLinux_6_1;
extern const Ability kLinux_6_9;

template <class T>
std::string bytes_of(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}
// A name as requests carry it.
inline std::string zero_ended(std::string_view name) { return std::string(name) + '\0'; }

class FakeKernel {
 public:
  // Opens the layers and starts `threads` that serve; asks nothing yet. Throws
  // std::runtime_error with the failure's message.
  explicit FakeKernel(const MountConfig& config, unsigned threads = 1);
  // Hangs up, as an unmount does, and waits until the session has ended.
  ~FakeKernel();
  FakeKernel(const FakeKernel&) = delete;
  FakeKernel& operator=(const FakeKernel&) = delete;
  // From now on the session's replies fail (EPIPE).
  void refuse_replies();
  // The end of the connection before that of this object, once what was sent is served.
  void hang_up();

  struct Reply {
    int error = 0;  // errno, 0 for success
    std::string payload;

    // The payload, or its beginning, as the protocol's struct.
    template <class T>
    T as() const {
      if (error != 0 || payload.size() < sizeof(T)) {
        throw std::runtime_error("reply with error " + std::to_string(error) + " and " +
                                 std::to_string(payload.size()) + " bytes");
      }
      T value;
      std::memcpy(&value, payload.data(), sizeof(T));
      return value;
    }
  };

  Reply init(const Ability& ability);
  // Sends a request and waits for its reply; throws if none comes in ten seconds.
  Reply ask(std::uint32_t opcode, std::uint64_t nodeid, std::string_view arguments = {});
  // The two halves of ask(); send() alone for what has no reply. Returns the id.
  std::uint64_t send(std::uint32_t opcode, std::uint64_t nodeid, std::string_view arguments = {});
  Reply reply_to(std::uint64_t unique);
  // Bytes in place of a request. False: the session has ended.
  bool send_raw(std::string_view bytes);

  // Requests in the protocol's form.
  Reply lookup(std::uint64_t parent, std::string_view name);
  Reply getattr(std::uint64_t nodeid);
  Reply make(std::uint64_t parent, std::string_view name, mode_t mode);  // MKNOD or MKDIR
  Reply create(std::uint64_t parent, std::string_view name, std::uint32_t flags,
               mode_t mode = 0644);
  Reply read(std::uint64_t nodeid, std::uint64_t offset, std::uint32_t size,
             std::uint32_t opcode = FUSE_READ);
  Reply write(std::uint64_t nodeid, std::uint64_t offset, std::string_view data,
              std::uint32_t write_flags = 0);
  void forget(std::uint64_t nodeid, std::uint64_t count);

  // Messages that came without being asked for, after all requests so far are served.
  std::vector<std::string> notifications();

  FileSystem& fs() { return *layers_.fs; }
  FuseContext& context() { return *context_; }

  // Who asks.
  uid_t uid;
  gid_t gid;
  mode_t umask = 022;

 private:
  OpenedLayers layers_;
  std::unique_ptr<FuseContext> context_;
  FuseSessionPtr session_;
  UniqueFd socket_;
  std::unique_ptr<ReaderPool> readers_;
  std::vector<std::thread> threads_;
  std::uint64_t unique_ = 0;
  std::map<std::uint64_t, Reply> replies_;
  std::vector<std::string> notifications_;
};

}  // namespace layerfs::testing
