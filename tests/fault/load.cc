#include "tests/fault/load.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>
#include <optional>
#include <random>
#include <stdexcept>

#include "tests/testlib/files.h"

namespace layerfs::fault {
namespace {

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kBlocks = 6;
constexpr std::size_t kRecord = 100;

constexpr unsigned kKinds = static_cast<unsigned>(SlotKind::Count);
SlotKind kind_of(unsigned slot) { return static_cast<SlotKind>(slot % kKinds); }

// `size` bytes that only this slot has at this step.
std::string text_of(unsigned slot, std::uint32_t step, std::size_t size) {
  std::array<char, 32> line{};
  std::snprintf(line.data(), line.size(), "slot %u step %u\n", slot, step);
  const std::string unit = line.data();
  std::string text;
  while (text.size() < size) {
    text += unit;
  }
  text.resize(size);
  return text;
}

std::size_t replace_size(std::uint32_t step) { return 1 + step * 977U % 9000U; }

std::string records(unsigned slot, std::uint32_t count) {
  std::string text;
  for (std::uint32_t i = 0; i <= count; ++i) {
    text += text_of(slot, i, kRecord);
  }
  return text;
}

mode_t mode_of(std::uint32_t step) { return 0600U | (step & 077U); }

// Paths of a slot below a root. Each worker has its directory, as the lower made it.
std::string path_of(const std::string& root, unsigned slot, const std::string& suffix = "") {
  return root + "/w" + std::to_string(slot / kKinds % Load::kWorkers) + "/s" +
         std::to_string(slot) + suffix;
}
std::string place_of(const std::string& root, unsigned slot, std::uint32_t step) {
  return path_of(root, slot, "." + std::to_string(step % 3));
}

class File {
 public:
  File(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~File() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  bool write(const std::string& text, off_t offset) const {
    return fd_ >= 0 &&
           ::pwrite(fd_, text.data(), text.size(), offset) == static_cast<ssize_t>(text.size());
  }
  bool write_synced(const std::string& text, off_t offset) const {
    return write(text, offset) && sync();
  }
  // As databases do, which write over what is there.
  bool write_data_synced(const std::string& text, off_t offset) const {
    return write(text, offset) && ::fdatasync(fd_) == 0;
  }
  // As pwritev2(2) takes them: RWF_DSYNC, RWF_SYNC.
  bool write_with(const std::string& text, off_t offset, int flags) const {
    const iovec part{const_cast<char*>(text.data()), text.size()};
    return fd_ >= 0 &&
           ::pwritev2(fd_, &part, 1, offset, flags) == static_cast<ssize_t>(text.size());
  }
  bool sync() const { return fd_ >= 0 && ::fsync(fd_) == 0; }

 private:
  int fd_;
};

bool replace(const std::string& root, unsigned slot, std::uint32_t step) {
  const std::string fresh = path_of(root, slot, ".new");
  ::unlink(fresh.c_str());
  const File file(fresh, O_WRONLY | O_CREAT);
  return file.write_synced(text_of(slot, step, replace_size(step)), 0) &&
         ::rename(fresh.c_str(), path_of(root, slot).c_str()) == 0;
}

bool overwrite(const std::string& path, const std::string& text, std::uint32_t way) {
  switch (way % 5) {
    case 0:
      return File(path, O_WRONLY).write_synced(text, 0);
    case 1:
      return File(path, O_WRONLY).write_data_synced(text, 0);
    case 2:
      return File(path, O_WRONLY).write_with(text, 0, RWF_DSYNC);
    case 3:
      return File(path, O_WRONLY).write_with(text, 0, RWF_SYNC);
    default:
      return File(path, O_WRONLY | O_DSYNC).write(text, 0);
  }
}

// Does `step`, coming from the one before.
bool take_step(const std::string& root, unsigned slot, std::uint32_t step) {
  const std::string path = path_of(root, slot);
  switch (kind_of(slot)) {
    case SlotKind::Replace:
      return replace(root, slot, step);
    case SlotKind::Overwrite:
      // Some have had their attributes copied up before, or are opened for it anew.
      return (step != 1 || slot / kKinds % 2 == 0 || ::chmod(path.c_str(), 0600) == 0) &&
             overwrite(path, text_of(slot, step, kBlock * kBlocks), step + slot / kKinds);
    case SlotKind::Append:
      return File(path, O_WRONLY)
          .write_synced(text_of(slot, step, kRecord), static_cast<off_t>(step * kRecord));
    case SlotKind::Name:
      switch (step % 4) {
        case 0:
          return ::mknod(path.c_str(), S_IFREG | 0644, 0) == 0;
        case 1:
          return ::unlink(path.c_str()) == 0;
        case 2:
          return ::mkdir(path.c_str(), 0755) == 0;
        default:
          return ::rmdir(path.c_str()) == 0;
      }
    case SlotKind::MoveFile:
    case SlotKind::MoveTree:
      return ::rename(place_of(root, slot, step - 1).c_str(), place_of(root, slot, step).c_str()) ==
             0;
    case SlotKind::Mode:
      return ::chmod(path.c_str(), mode_of(step)) == 0;
    case SlotKind::Linked:
      return File(path_of(root, slot, step % 2 == 0 ? ".a" : ".b"), O_WRONLY)
          .write_synced(text_of(slot, step, 500), 0);
    case SlotKind::Count:
      break;
  }
  return false;
}

// Puts on disk what the last step of the slot did that was not.
bool keep(const std::string& root, unsigned slot) {
  switch (kind_of(slot)) {
    case SlotKind::Replace:
    case SlotKind::Name:
    case SlotKind::MoveFile:
    case SlotKind::MoveTree:
      return File(std::filesystem::path(path_of(root, slot)).parent_path(), O_RDONLY).sync();
    case SlotKind::Mode:
      return File(path_of(root, slot), O_RDONLY).sync();
    default:
      return true;
  }
}

bool is_kept_by_itself(unsigned slot) {
  const SlotKind kind = kind_of(slot);
  return kind == SlotKind::Overwrite || kind == SlotKind::Append || kind == SlotKind::Linked;
}

std::string read_or_error(const std::string& path) {
  try {
    return testing::read_file(path);
  } catch (const std::system_error& error) {
    return std::string("error: ") + std::strerror(error.code().value());
  }
}

mode_t type_of(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) == 0) {
    return st.st_mode & S_IFMT;
  }
  return errno == ENOENT ? 0 : ~mode_t{0};
}

mode_t type_at(std::uint32_t step) {
  const mode_t types[] = {S_IFREG, 0, S_IFDIR, 0};
  return types[step % 4];
}

// Only the name of `step` is there, and all that belongs there.
bool is_moved_to(const std::string& root, unsigned slot, std::uint32_t step) {
  const std::string inside = kind_of(slot) == SlotKind::MoveTree ? "/inside/file" : "";
  for (std::uint32_t i = 0; i < 3; ++i) {
    const bool there = i == step % 3;
    const std::string place = place_of(root, slot, i);
    if (!there && type_of(place) != 0) {
      return false;
    }
    if (there && read_or_error(place + inside) != text_of(slot, 0, 3000)) {
      return false;
    }
  }
  return true;
}

bool are_blocks_of(const std::string& seen, unsigned slot, std::uint32_t done, std::uint32_t next) {
  const std::string old = text_of(slot, done, kBlock * kBlocks);
  const std::string fresh = text_of(slot, next, kBlock * kBlocks);
  bool same = seen.size() == old.size();
  for (std::size_t at = 0; same && at < seen.size(); at += kBlock) {
    const auto is = [&](const std::string& text) {
      return seen.compare(at, kBlock, text, at, kBlock) == 0;
    };
    same = is(old) || is(fresh);
  }
  return same;
}

// The slot shows `step` and nothing else.
bool shows(const std::string& root, unsigned slot, std::uint32_t step) {
  const std::string path = path_of(root, slot);
  switch (kind_of(slot)) {
    case SlotKind::Replace:
      return read_or_error(path) == text_of(slot, step, replace_size(step));
    case SlotKind::Overwrite:
      return read_or_error(path) == text_of(slot, step, kBlock * kBlocks);
    case SlotKind::Append:
      return read_or_error(path) == records(slot, step);
    case SlotKind::Name:
      return type_of(path) == type_at(step);
    case SlotKind::MoveFile:
    case SlotKind::MoveTree:
      return is_moved_to(root, slot, step);
    case SlotKind::Mode: {
      struct stat st {};
      return ::lstat(path.c_str(), &st) == 0 && (st.st_mode & 07777U) == mode_of(step) &&
             read_or_error(path) == text_of(slot, 0, 3000);
    }
    case SlotKind::Linked:
      return read_or_error(path_of(root, slot, ".a")) == text_of(slot, step, 500) &&
             read_or_error(path_of(root, slot, ".b")) == text_of(slot, step, 500);
    case SlotKind::Count:
      break;
  }
  return false;
}

// What of step `next` may be there without the rest.
bool shows_part(const std::string& root, unsigned slot, std::uint32_t done, std::uint32_t next) {
  if (kind_of(slot) == SlotKind::Overwrite) {
    return are_blocks_of(read_or_error(path_of(root, slot)), slot, done, next);
  }
  if (kind_of(slot) == SlotKind::Append) {
    const std::string seen = read_or_error(path_of(root, slot));
    const std::string old = records(slot, done);
    const std::string fresh = records(slot, next);
    bool fits = seen.starts_with(old) && seen.size() <= fresh.size();
    for (std::size_t i = old.size(); fits && i < seen.size(); ++i) {
      // Of what was not synced the size may be on disk before the data.
      fits = seen[i] == fresh[i] || seen[i] == '\0';
    }
    return fits;
  }
  return false;
}

// What a person wants to know of a slot that is at no step.
std::string looks_like(const std::string& root, unsigned slot) {
  std::string text;
  for (const char* suffix : {"", ".a", ".b", ".0", ".1", ".2"}) {
    const std::string path = path_of(root, slot, suffix);
    struct stat st {};
    if (::lstat(path.c_str(), &st) == 0) {
      const std::string begin =
          S_ISREG(st.st_mode) ? read_or_error(path).substr(0, 18) : "directory";
      text += "; " + path_of("", slot, suffix) + " has " + std::to_string(st.st_size) +
              " bytes: " + begin.substr(0, begin.find('\n'));
    }
  }
  return text;
}

void make_first(const std::string& lower, unsigned slot) {
  const std::string path = path_of(lower, slot);
  switch (kind_of(slot)) {
    case SlotKind::Replace:
      testing::write_file(path, text_of(slot, 0, replace_size(0)));
      break;
    case SlotKind::Overwrite:
      testing::write_file(path, text_of(slot, 0, kBlock * kBlocks));
      break;
    case SlotKind::Append:
      testing::write_file(path, records(slot, 0));
      break;
    case SlotKind::Name:
      testing::write_file(path, "");
      break;
    case SlotKind::MoveFile:
      testing::write_file(place_of(lower, slot, 0), text_of(slot, 0, 3000));
      break;
    case SlotKind::MoveTree:
      testing::make_dirs(place_of(lower, slot, 0) + "/inside");
      testing::write_file(place_of(lower, slot, 0) + "/inside/file", text_of(slot, 0, 3000));
      break;
    case SlotKind::Mode:
      testing::write_file(path, text_of(slot, 0, 3000));
      std::filesystem::permissions(path, static_cast<std::filesystem::perms>(mode_of(0)));
      break;
    case SlotKind::Linked:
      testing::write_file(path_of(lower, slot, ".a"), text_of(slot, 0, 500));
      std::filesystem::create_hard_link(path_of(lower, slot, ".a"), path_of(lower, slot, ".b"));
      break;
    case SlotKind::Count:
      break;
  }
}

const char* name_of(SlotKind kind) {
  static constexpr const char* kNames[] = {"replaced file", "overwritten file", "appended file",
                                           "name",          "moved file",       "moved directory",
                                           "mode",          "linked file"};
  return kNames[static_cast<unsigned>(kind)];
}

}  // namespace

Load::Load() {
  void* const memory = ::mmap(nullptr, sizeof(Slot) * kSlots, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw std::runtime_error(std::string("mmap: ") + std::strerror(errno));
  }
  slots_ = static_cast<Slot*>(memory);
}

Load::~Load() { ::munmap(slots_, sizeof(Slot) * kSlots); }

void Load::restart() {
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    new (&slots_[slot]) Slot();
  }
}

void Load::make_files(const std::string& lower) {
  for (unsigned worker = 0; worker < kWorkers; ++worker) {
    testing::make_dirs(lower + "/w" + std::to_string(worker));
  }
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    make_first(lower, slot);
  }
}

std::vector<Load::Steps> Load::state() const {
  std::vector<Steps> state;
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    // In this order: what is kept was begun.
    const std::uint32_t kept = slots_[slot].kept;
    state.push_back({kept, slots_[slot].next});
  }
  return state;
}

void Load::go_back_to(const std::vector<Steps>& state) {
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    slots_[slot].kept = state[slot].kept;
    slots_[slot].done = state[slot].kept;
    slots_[slot].next = state[slot].next;
  }
}

int Load::work(const std::string& root, unsigned worker, std::uint64_t seed, End end,
               std::uint64_t steps) {
  constexpr unsigned kKeptOneIn = 3;
  std::mt19937_64 random(seed);
  while (steps > 0) {
    const auto slot = static_cast<unsigned>(random() % kSlots);
    if (slot / kKinds % kWorkers != worker) {
      continue;
    }
    Slot& state = slots_[slot];
    const std::uint32_t step = state.done + 1;
    state.next = step;
    errno = 0;
    if (!take_step(root, slot, step)) {
      return errno;
    }
    state.done = step;
    if (end == End::Daemon) {
      state.kept = step;
    } else if (is_kept_by_itself(slot) || random() % kKeptOneIn == 0) {
      if (!keep(root, slot)) {
        return errno;
      }
      state.kept = step;
    }
    --steps;
  }
  return 0;
}

std::vector<std::string> Load::judge(const std::string& root) {
  std::vector<std::string> lines;
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    Slot& state = slots_[slot];
    const std::uint32_t kept = state.kept;
    const std::uint32_t next = state.next;
    std::optional<std::uint32_t> now;
    for (std::uint32_t step = kept; !now && step <= next; ++step) {
      if (shows(root, slot, step)) {
        now = step;
      }
    }
    if (!now && kept != next && shows_part(root, slot, kept, next) && take_step(root, slot, next)) {
      now = next;
    }
    if (!now) {
      lines.push_back(std::string(name_of(kind_of(slot))) + " " + path_of("", slot) +
                      ": no step from " + std::to_string(kept) + " to " + std::to_string(next) +
                      looks_like(root, slot));
      now = kept;
    }
    state.kept = *now;
    state.done = *now;
    state.next = *now;
  }
  return lines;
}

std::uint64_t Load::steps() const {
  std::uint64_t sum = 0;
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    sum += slots_[slot].done;
  }
  return sum;
}

}  // namespace layerfs::fault
