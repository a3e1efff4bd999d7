#include "tools/run/procfs/fuse_server.h"

#include <fuse_lowlevel.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>

#include "tools/run/procfs/views.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

constexpr double kForever = 1e9;
constexpr std::uint64_t kMicro = 1000000;

std::uint64_t microseconds(clockid_t which) {
  timespec now{};
  ::clock_gettime(which, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kMicro +
         static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

std::string host_text(const char* path) {
  const auto text = read_text_if_there(path);
  return text && *text ? **text : std::string();
}

class Server {
 public:
  explicit Server(CgroupDirs dirs) : dirs_(std::move(dirs)) {
    host_processors_ = static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_ONLN));
    began_ = microseconds(CLOCK_BOOTTIME);
    began_on_ = static_cast<std::uint64_t>(::time(nullptr));
  }

  void set_session(fuse_session* session) { session_ = session; }
  fuse_session* session() const { return session_; }

  void sample_load() { load_.sample(count_threads(dirs_)); }

  std::string meminfo() const {
    const std::string host = host_text("/proc/meminfo");
    const auto use = memory_use(dirs_);
    return use ? meminfo_view(host, *use) : host;
  }
  std::string cpuinfo() const {
    const CpuUse use = cpu_use(dirs_);
    return cpuinfo_view(host_text("/proc/cpuinfo"), use, processors(use));
  }
  std::string stat() const {
    const CpuUse use = cpu_use(dirs_);
    const auto pids = pids_use(dirs_);
    const ThreadCount threads{1, pids ? pids->used : 1};
    return use.user ? stat_view(use, processors(use), clock(), threads.running, threads.all)
                    : host_text("/proc/stat");
  }
  std::string loadavg() const { return load_.view(); }
  std::string uptime() const {
    const CpuUse use = cpu_use(dirs_);
    return uptime_view(use, processors(use), clock());
  }
  std::string diskstats() const {
    const std::string host = host_text("/proc/diskstats");
    const auto use = device_use(dirs_);
    return use ? diskstats_view(host, *use) : host;
  }
  std::string swaps() const {
    const auto use = memory_use(dirs_);
    return use ? swaps_view(host_text("/proc/meminfo"), *use) : host_text("/proc/swaps");
  }
  std::string online() const { return online_view(processors(cpu_use(dirs_))); }

 private:
  unsigned processors(const CpuUse& use) const { return visible_processors(use, host_processors_); }
  Clock clock() const { return {microseconds(CLOCK_BOOTTIME) - began_, began_on_}; }

  fuse_session* session_ = nullptr;
  CgroupDirs dirs_;
  unsigned host_processors_ = 1;
  std::uint64_t began_ = 0;
  std::uint64_t began_on_ = 0;
  LoadAverage load_;
};

struct File {
  const char* name;
  std::string (Server::*text)() const;
};
constexpr std::array kFiles = {
    File{"meminfo", &Server::meminfo}, File{"cpuinfo", &Server::cpuinfo},
    File{"stat", &Server::stat},       File{"loadavg", &Server::loadavg},
    File{"uptime", &Server::uptime},   File{"diskstats", &Server::diskstats},
    File{"swaps", &Server::swaps},     File{"online", &Server::online},
};
constexpr fuse_ino_t kFirst = FUSE_ROOT_ID + 1;

const File* file_of(fuse_ino_t ino) {
  return ino >= kFirst && ino - kFirst < kFiles.size() ? &kFiles.at(ino - kFirst) : nullptr;
}

struct stat attributes(fuse_ino_t ino) {
  struct stat out {};
  out.st_ino = ino;
  out.st_nlink = 1;
  out.st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0555 : S_IFREG | 0444;
  return out;
}

void on_lookup(fuse_req_t request, fuse_ino_t /*parent*/, const char* name) {
  for (std::size_t i = 0; i < kFiles.size(); ++i) {
    if (std::strcmp(name, kFiles.at(i).name) == 0) {
      fuse_entry_param entry{};
      entry.ino = kFirst + i;
      entry.attr = attributes(entry.ino);
      entry.entry_timeout = kForever;
      fuse_reply_entry(request, &entry);
      return;
    }
  }
  fuse_reply_err(request, ENOENT);
}

// stat(2) says 0, as of the kernel's own files: programs then read to the end.
void on_getattr(fuse_req_t request, fuse_ino_t ino, fuse_file_info* /*file*/) {
  const struct stat st = attributes(ino);
  fuse_reply_attr(request, &st, 0);
}

// sendfile(2), unlike read(2), gives up at what the kernel takes for the size; storing a byte
// far out raises that, and the kernel forgets the byte as it opens the file.
void look_large(fuse_session* session, fuse_ino_t ino) {
  constexpr off_t kSize = 1 << 20;
  char byte = 0;
  fuse_bufvec content = FUSE_BUFVEC_INIT(1);
  content.buf[0].mem = &byte;
  fuse_lowlevel_notify_store(session, ino, kSize - 1, &content,
                             static_cast<fuse_buf_copy_flags>(0));
}

// What one open file reads; made anew whenever it is read from its beginning, as programs
// that keep /proc files open expect.
void on_open(fuse_req_t request, fuse_ino_t ino, fuse_file_info* file) {
  if (file_of(ino) == nullptr || (file->flags & O_ACCMODE) != O_RDONLY) {
    fuse_reply_err(request, EACCES);
    return;
  }
  look_large(static_cast<Server*>(fuse_req_userdata(request))->session(), ino);
  auto text = std::make_unique<std::string>();
  file->fh = reinterpret_cast<std::uintptr_t>(text.get());
  file->direct_io = 1;  // else the size of 0 would end a read
  if (fuse_reply_open(request, file) == 0) {
    static_cast<void>(text.release());  // the open file has it, until on_release
  }
}

void on_read(fuse_req_t request, fuse_ino_t ino, std::size_t size, off_t offset,
             fuse_file_info* file) {
  auto& text = *reinterpret_cast<std::string*>(file->fh);
  if (offset == 0) {
    const auto* server = static_cast<const Server*>(fuse_req_userdata(request));
    text = (server->*file_of(ino)->text)();
  }
  const std::size_t from = std::min(static_cast<std::size_t>(offset), text.size());
  fuse_reply_buf(request, text.data() + from, std::min(size, text.size() - from));
}

void on_release(fuse_req_t request, fuse_ino_t /*ino*/, fuse_file_info* file) {
  const std::unique_ptr<std::string> text(reinterpret_cast<std::string*>(file->fh));
  fuse_reply_err(request, 0);
}

UniqueFd make_timer() {
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  const itimerspec every{{LoadAverage::kInterval.count(), 0}, {LoadAverage::kInterval.count(), 0}};
  if (timer) {
    ::timerfd_settime(timer.get(), 0, &every, nullptr);
  }
  return timer;
}

void serve(fuse_session* session, Server& server) {
  const UniqueFd timer = make_timer();
  fuse_buf buffer{};
  while (fuse_session_exited(session) == 0) {
    std::array<pollfd, 2> items{{{fuse_session_fd(session), POLLIN, 0}, {timer.get(), POLLIN, 0}}};
    if (::poll(items.data(), items.size(), -1) < 0) {
      continue;
    }
    std::uint64_t times = 0;
    if (items[1].revents != 0 && ::read(timer.get(), &times, sizeof times) > 0) {
      server.sample_load();
    }
    if (items[0].revents == 0) {
      continue;
    }
    const int received = fuse_session_receive_buf(session, &buffer);
    if (received > 0) {
      fuse_session_process_buf(session, &buffer);
    } else if (received != -EINTR && received != -EAGAIN) {
      return;
    }
  }
}

}  // namespace

void serve_proc(ProcServerStart start) {
  Server server(std::move(start.dirs));
  fuse_lowlevel_ops operations{};
  operations.lookup = on_lookup;
  operations.getattr = on_getattr;
  operations.open = on_open;
  operations.read = on_read;
  operations.release = on_release;
  std::string name = "layerfs-proc";
  std::array<char*, 1> argv{name.data()};
  fuse_args args = FUSE_ARGS_INIT(1, argv.data());
  fuse_session* session = fuse_session_new(&args, &operations, sizeof operations, &server);
  server.set_session(session);
  const std::string device = "/dev/fd/" + std::to_string(start.device.release());
  if (session != nullptr && fuse_session_mount(session, device.c_str()) == 0) {
    serve(session, server);
  }
  ::_exit(0);
}

}  // namespace layerfs::run
