#include "tests/testlib/fake_kernel.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "tests/testlib/files.h"

namespace layerfs::testing {
namespace {

// Ten seconds in all, in looks: whoever is stopped for long (SIGSTOP, a freezer) misses one.
constexpr int kLookMs = 1000;
constexpr int kLooks = 10;
// Holds the largest request (1 MiB of data and its header) and some more.
constexpr int kSocketBytes = 4 << 20;

}  // namespace

const Ability kLinux_5_6 = {
    31, FUSE_ASYNC_READ | FUSE_POSIX_LOCKS | FUSE_ATOMIC_O_TRUNC | FUSE_EXPORT_SUPPORT |
            FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_SPLICE_WRITE | FUSE_SPLICE_MOVE |
            FUSE_SPLICE_READ | FUSE_FLOCK_LOCKS | FUSE_HAS_IOCTL_DIR | FUSE_AUTO_INVAL_DATA |
            FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_WRITEBACK_CACHE |
            FUSE_NO_OPEN_SUPPORT | FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV | FUSE_POSIX_ACL |
            FUSE_ABORT_ERROR | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_NO_OPENDIR_SUPPORT |
            FUSE_EXPLICIT_INVAL_DATA};
const Ability kLinux_5_11 = {
    33, kLinux_5_6.flags | FUSE_SUBMOUNTS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT};
const Ability kLinux_6_1 = {37, kLinux_5_11.flags | FUSE_INIT_EXT | FUSE_SECURITY_CTX};
const Ability kLinux_6_9 = {40, kLinux_6_1.flags | kFusePassthrough | kFuseNoExportSupport};

FakeKernel::FakeKernel(const MountConfig& config, unsigned threads)
    : uid(::geteuid()), gid(::getegid()) {
  ::signal(SIGPIPE, SIG_IGN);                                      // as the daemon does
  fuse_set_log_func([](fuse_log_level, const char*, va_list) {});  // hanging up is no news
  auto opened = open_layers(config);
  if (!opened) {
    throw std::runtime_error(opened.error().message);
  }
  layers_ = std::move(*opened);
  context_ = std::make_unique<FuseContext>(*layers_.fs, fuse_settings(config, layers_));
  session_ = make_fuse_session(*context_, "fsname=fake");
  int pair[2];
  if (!session_ || ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    throw_errno("fake kernel");
  }
  for (const int fd : pair) {
    // Without the privilege, messages are as large as the system's limit.
    if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBytes, sizeof kSocketBytes) != 0) {
      ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);
    }
  }
  socket_.reset(pair[0]);
  if (fuse_session_mount(session_.get(), ("/dev/fd/" + std::to_string(pair[1])).c_str()) != 0) {
    throw_errno("/dev/fd");
  }
  readers_ = std::make_unique<ReaderPool>(threads);
  for (unsigned i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { serve_requests(*context_, *readers_); });
  }
}

FakeKernel::~FakeKernel() { hang_up(); }

void FakeKernel::refuse_replies() { ::shutdown(socket_.get(), SHUT_RD); }

void FakeKernel::hang_up() {
  socket_.reset();
  for (std::thread& thread : threads_) {
    thread.join();
  }
  threads_.clear();
}

bool FakeKernel::send_raw(std::string_view bytes) {
  return ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

std::uint64_t FakeKernel::send(std::uint32_t opcode, std::uint64_t nodeid,
                               std::string_view arguments) {
  unique_ += 2;  // odd ones are the kernel's interrupts
  fuse_in_header header{};
  header.len = static_cast<std::uint32_t>(sizeof(header) + arguments.size());
  header.opcode = opcode;
  header.unique = unique_;
  header.nodeid = nodeid;
  header.uid = uid;
  header.gid = gid;
  header.pid = static_cast<std::uint32_t>(::getpid());
  if (!send_raw(bytes_of(header).append(arguments))) {
    throw_errno("request of kind " + std::to_string(opcode));
  }
  return unique_;
}

FakeKernel::Reply FakeKernel::reply_to(std::uint64_t unique) {
  while (!replies_.contains(unique)) {
    pollfd ready{socket_.get(), POLLIN, 0};
    int looks = 0;
    while (looks < kLooks && ::poll(&ready, 1, kLookMs) != 1) {
      ++looks;
    }
    if (looks == kLooks) {
      throw std::runtime_error("no reply to request " + std::to_string(unique));
    }
    const ssize_t size = ::recv(socket_.get(), nullptr, 0, MSG_PEEK | MSG_TRUNC);
    std::string message(static_cast<std::size_t>(std::max<ssize_t>(size, 0)), '\0');
    const ssize_t n = ::recv(socket_.get(), message.data(), message.size(), 0);
    if (n < static_cast<ssize_t>(sizeof(fuse_out_header))) {
      throw std::runtime_error("the session has ended");
    }
    fuse_out_header header{};
    std::memcpy(&header, message.data(), sizeof(header));
    if (header.len != message.size()) {
      throw std::runtime_error("the reply's length is not what its header says");
    }
    if (header.unique == 0) {
      notifications_.push_back(std::move(message));
      continue;
    }
    const bool known = replies_.contains(header.unique);
    if (known || header.unique > unique_) {
      throw std::runtime_error("a reply to nothing that was asked");
    }
    replies_[header.unique] = {-header.error, message.substr(sizeof(header))};
  }
  Reply reply = std::move(replies_[unique]);
  replies_.erase(unique);
  return reply;
}

FakeKernel::Reply FakeKernel::ask(std::uint32_t opcode, std::uint64_t nodeid,
                                  std::string_view arguments) {
  return reply_to(send(opcode, nodeid, arguments));
}

FakeKernel::Reply FakeKernel::init(const Ability& ability) {
  fuse_init_in in{};
  in.major = FUSE_KERNEL_VERSION;
  in.minor = ability.minor;
  in.max_readahead = 1U << 20U;
  in.flags = static_cast<std::uint32_t>(ability.flags);
  in.flags2 = static_cast<std::uint32_t>(ability.flags >> 32U);
  return ask(FUSE_INIT, 0, bytes_of(in));
}

FakeKernel::Reply FakeKernel::lookup(std::uint64_t parent, std::string_view name) {
  return ask(FUSE_LOOKUP, parent, zero_ended(name));
}

FakeKernel::Reply FakeKernel::getattr(std::uint64_t nodeid) {
  return ask(FUSE_GETATTR, nodeid, bytes_of(fuse_getattr_in{}));
}

FakeKernel::Reply FakeKernel::make(std::uint64_t parent, std::string_view name, mode_t mode) {
  if (S_ISDIR(mode)) {
    fuse_mkdir_in in{};
    in.mode = mode;
    in.umask = umask;
    return ask(FUSE_MKDIR, parent, bytes_of(in) + zero_ended(name));
  }
  fuse_mknod_in in{};
  in.mode = mode;
  in.umask = umask;
  return ask(FUSE_MKNOD, parent, bytes_of(in) + zero_ended(name));
}

FakeKernel::Reply FakeKernel::create(std::uint64_t parent, std::string_view name,
                                     std::uint32_t flags, mode_t mode) {
  fuse_create_in in{};
  in.flags = flags | O_CREAT;
  in.mode = S_IFREG | mode;
  in.umask = umask;
  return ask(FUSE_CREATE, parent, bytes_of(in) + zero_ended(name));
}

FakeKernel::Reply FakeKernel::read(std::uint64_t nodeid, std::uint64_t offset, std::uint32_t size,
                                   std::uint32_t opcode) {
  fuse_read_in in{};
  in.offset = offset;
  in.size = size;
  return ask(opcode, nodeid, bytes_of(in));
}

FakeKernel::Reply FakeKernel::write(std::uint64_t nodeid, std::uint64_t offset,
                                    std::string_view data, std::uint32_t write_flags) {
  fuse_write_in in{};
  in.offset = offset;
  in.size = static_cast<std::uint32_t>(data.size());
  in.write_flags = write_flags;
  return ask(FUSE_WRITE, nodeid, bytes_of(in).append(data));
}

void FakeKernel::forget(std::uint64_t nodeid, std::uint64_t count) {
  fuse_forget_in in{};
  in.nlookup = count;
  send(FUSE_FORGET, nodeid, bytes_of(in));
}

std::vector<std::string> FakeKernel::notifications() {
  getattr(FUSE_ROOT_ID);
  return std::exchange(notifications_, {});
}

}  // namespace layerfs::testing
