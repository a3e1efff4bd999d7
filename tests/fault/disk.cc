#include "tests/fault/disk.h"

#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace layerfs::fault {
namespace {

constexpr const char* kName = "disk";
constexpr fuse_ino_t kFile = 2;
constexpr double kForever = 1e6;

Disk& disk_of(fuse_req_t req) { return *static_cast<Disk*>(fuse_req_userdata(req)); }

struct stat stat_of(fuse_ino_t ino) {
  struct stat st {};
  st.st_ino = ino;
  st.st_mode = ino == kFile ? S_IFREG | 0600 : S_IFDIR | 0700;
  st.st_nlink = ino == kFile ? 1 : 2;
  st.st_size = ino == kFile ? static_cast<off_t>(Disk::kBytes) : 0;
  return st;
}

void on_init(void* /*disk*/, fuse_conn_info* conn) { conn->max_write = 1U << 20U; }

void on_lookup(fuse_req_t req, fuse_ino_t /*parent*/, const char* name) {
  if (std::strcmp(name, kName) != 0) {
    fuse_reply_err(req, ENOENT);
    return;
  }
  fuse_entry_param entry{};
  entry.ino = kFile;
  entry.attr = stat_of(kFile);
  entry.attr_timeout = kForever;
  entry.entry_timeout = kForever;
  fuse_reply_entry(req, &entry);
}

void on_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* /*fi*/) {
  const struct stat st = stat_of(ino);
  fuse_reply_attr(req, &st, kForever);
}

// Times, and the O_TRUNC of whoever makes a file system.
void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* /*st*/, int /*what*/,
                fuse_file_info* fi) {
  on_getattr(req, ino, fi);
}

void on_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  if (ino != kFile) {
    fuse_reply_err(req, EISDIR);
    return;
  }
  // In the order, and in the parts, in which the device writes.
  fi->direct_io = 1;
  fuse_reply_open(req, fi);
}

void on_read(fuse_req_t req, fuse_ino_t /*ino*/, std::size_t size, off_t offset,
             fuse_file_info* /*fi*/) {
  const auto from = static_cast<std::uint64_t>(offset);
  std::string data(std::min<std::uint64_t>(size, Disk::kBytes - std::min(from, Disk::kBytes)),
                   '\0');
  disk_of(req).read(from, data.size(), data.data());
  fuse_reply_buf(req, data.data(), data.size());
}

void on_write(fuse_req_t req, fuse_ino_t /*ino*/, const char* data, std::size_t size, off_t offset,
              fuse_file_info* /*fi*/) {
  const auto to = static_cast<std::uint64_t>(offset);
  if (to + size > Disk::kBytes) {
    fuse_reply_err(req, ENOSPC);
    return;
  }
  disk_of(req).write(to, data, size);
  fuse_reply_write(req, size);
}

void on_fsync(fuse_req_t req, fuse_ino_t /*ino*/, int /*data_only*/, fuse_file_info* /*fi*/) {
  disk_of(req).flush();
  fuse_reply_err(req, 0);
}

const fuse_lowlevel_ops kOperations = [] {
  fuse_lowlevel_ops ops{};
  ops.init = on_init;
  ops.lookup = on_lookup;
  ops.getattr = on_getattr;
  ops.setattr = on_setattr;
  ops.open = on_open;
  ops.read = on_read;
  ops.write = on_write;
  ops.fsync = on_fsync;
  return ops;
}();

}  // namespace

Disk::Disk(std::string dir) : dir_(std::move(dir)) {
  std::string program = "fault-test";
  char* argv[] = {program.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, argv);
  session_ = fuse_session_new(&args, &kOperations, sizeof kOperations, this);
  fuse_opt_free_args(&args);
  if (session_ == nullptr || fuse_session_mount(session_, dir_.c_str()) != 0) {
    throw std::runtime_error("no FUSE file system at " + dir_);
  }
  thread_ = std::thread([this] {
    // What writes out memory must not wait for memory that is to be written out.
    ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    fuse_session_loop(session_);
  });
}

Disk::~Disk() {
  fuse_session_exit(session_);
  ::umount2(dir_.c_str(), MNT_DETACH);
  thread_.join();
  fuse_session_destroy(session_);
}

void Disk::let_go() const { ::close(fuse_session_fd(session_)); }

std::string Disk::path() const { return dir_ + "/" + kName; }

const Disk::Page* Disk::find(std::uint64_t page) const {
  for (const Pages* pages : {&fresh_, &kept_}) {
    if (const auto found = pages->find(page); found != pages->end() && found->second) {
      return found->second.get();
    }
  }
  return nullptr;
}

void Disk::put(Pages& pages, std::uint64_t offset, const char* data, std::uint64_t size) {
  while (size > 0) {
    const std::uint64_t within = offset % kPage;
    const std::uint64_t part = std::min(size, kPage - within);
    auto& page = pages[offset / kPage];
    if (!page) {
      const Page* const old = find(offset / kPage);
      page = std::make_unique<Page>(old != nullptr ? *old : Page{});
    }
    std::memcpy(page->data() + within, data, part);
    data += part;
    offset += part;
    size -= part;
  }
}

void Disk::read(std::uint64_t offset, std::uint64_t size, char* to) {
  const std::lock_guard lock(mutex_);
  while (size > 0) {
    const std::uint64_t within = offset % kPage;
    const std::uint64_t part = std::min(size, kPage - within);
    if (const Page* const page = find(offset / kPage)) {
      std::memcpy(to, page->data() + within, part);
    }
    to += part;
    offset += part;
    size -= part;
  }
}

void Disk::write(std::uint64_t offset, const char* data, std::uint64_t size) {
  const std::lock_guard lock(mutex_);
  put(fresh_, offset, data, size);
  if (note_) {
    events_.push_back({false, offset, std::string(data, size)});
    note_();
  }
}

void Disk::flush() {
  const std::lock_guard lock(mutex_);
  if (note_) {
    events_.push_back({true, 0, {}});
    note_();
  }
}

void Disk::record(std::function<void()> note) {
  const std::lock_guard lock(mutex_);
  for (auto& [number, page] : fresh_) {
    kept_[number] = std::move(page);
  }
  fresh_.clear();
  events_.clear();
  applied_ = 0;
  note_ = std::move(note);
}

void Disk::stop() {
  const std::lock_guard lock(mutex_);
  note_ = nullptr;
}

void Disk::cut(std::size_t count, std::mt19937_64& random) {
  const std::lock_guard lock(mutex_);
  fresh_.clear();
  std::size_t flushed = count;
  while (flushed > applied_ && !events_[flushed - 1].is_flush) {
    --flushed;
  }
  for (; applied_ < flushed; ++applied_) {
    const Event& event = events_[applied_];
    put(kept_, event.offset, event.data.data(), event.data.size());
  }
  // None, all, or some of what was on its way.
  const std::uint64_t odds = random() % 5;
  for (std::size_t i = flushed; i < count; ++i) {
    const Event& event = events_[i];
    for (std::uint64_t at = 0; at < event.data.size();) {
      const std::uint64_t part =
          std::min(kPage - (event.offset + at) % kPage, event.data.size() - at);
      if (random() % 4 < odds) {
        put(fresh_, event.offset + at, event.data.data() + at, part);
      }
      at += part;
    }
  }
}

}  // namespace layerfs::fault
