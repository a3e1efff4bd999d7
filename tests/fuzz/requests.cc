// Any sequence of requests that a kernel may send, through the session's real code: each is
// answered, the daemon lives, and neither the lowers nor what is beside the layers changes.
//
// Lengths are true, node ids and handles are ones that replies gave, as the kernel's are; all
// else is the input's: opcodes, names, flags, modes, owners, attributes, offsets.
#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "layers/sys/syscalls.h"
#include "tests/fuzz/target.h"
#include "tests/testlib/fake_kernel.h"
#include "tests/testlib/files.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

// Linux 6.18, include/uapi/linux/fuse.h; that of Debian 12 may lack them.
constexpr std::uint32_t kTmpfile = 51;
constexpr std::size_t kMostRequests = 64;
constexpr std::uint32_t kMostBytes = 1U << 20U;

const char* const kNames[] = {"file",
                              "dir",
                              "inside",
                              "link1",
                              "link2",
                              "gone",
                              "both",
                              "symlink",
                              "new",
                              "new2",
                              ".",
                              "..",
                              "",
                              ".wh.file",
                              ".wh..wh..opq",
                              "user.a",
                              "user.b",
                              "security.capability",
                              "system.posix_acl_access",
                              "system.posix_acl_default",
                              "trusted.overlay.opaque",
                              "trusted.overlay.redirect",
                              "user.overlay.metacopy",
                              "user.containers.override_stat"};

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  bool is_over() const { return at_ >= size_; }
  std::uint8_t byte() { return is_over() ? 0 : data_[at_++]; }
  std::string bytes(std::size_t count) {
    const std::size_t have = std::min(count, size_ - std::min(at_, size_));
    std::string text(reinterpret_cast<const char*>(data_ + at_), have);
    at_ += have;
    return text;
  }
  // A request's structure; what the input lacks is 0.
  template <class T>
  T as() {
    T value{};
    const std::string text = bytes(sizeof(T));
    std::memcpy(&value, text.data(), text.size());
    return value;
  }
  std::string name() {
    const std::uint8_t choice = byte();
    if (choice < std::size(kNames)) {
      return kNames[choice];
    }
    if (choice < std::size(kNames) + 2) {
      return std::string(choice == std::size(kNames) ? 255 : 256, 'n');
    }
    const std::string text = bytes(choice % 32U);
    return text.substr(0, text.find('\0'));
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

// One for all runs.
struct Ground {
  TempDir dir{quick_parent()};
  MountConfig config;
  std::string before;

  Ground() {
    for (const char* name : {"l0", "l1/dir", "m", "outside"}) {
      make_dirs(dir.at(name));
    }
    write_file(dir.at("l1/file"), "content");
    write_file(dir.at("l1/dir/inside"), std::string(10000, 'i'));
    write_file(dir.at("l1/both"), "below");
    write_file(dir.at("l0/both"), "above");
    write_file(dir.at("l1/gone"), "deleted");
    write_file(dir.at("l0/.wh.gone"), "");
    write_file(dir.at("l1/link1"), "linked");
    write_file(dir.at("outside/precious"), "precious");
    if (::link(dir.at("l1/link1").c_str(), dir.at("l1/link2").c_str()) != 0 ||
        ::symlink("../../outside/precious", dir.at("l1/symlink").c_str()) != 0) {
      throw_errno("links");
    }
    config.lowers = {dir.at("l0"), dir.at("l1")};
    config.upper = dir.at("u");
    config.work = dir.at("w");
    config.mountpoint = dir.at("m");
    config.io = MountConfig::Io::Cached;
    before = look();
  }

  // What must stay.
  std::string look() const {
    std::string text;
    for (const char* name : {"", "l0", "l1", "l1/dir", "outside"}) {
      for (const std::string& entry : names_in(dir.at(name))) {
        const struct stat st = stat_of(dir.at(name) + "/" + entry);
        text += entry + (S_ISREG(st.st_mode) ? "=" + read_file(dir.at(name) + "/" + entry) : "") +
                " " + std::to_string(st.st_mode) + " " + std::to_string(st.st_uid) + "\n";
      }
      if (*name == '\0') {
        text.clear();  // the upper comes and goes
      }
    }
    return text;
  }
};

class Client {
 public:
  Client(const MountConfig& config, Input& input) : kernel_(config), input_(input) {
    const std::array abilities = {kLinux_5_6, kLinux_5_11, kLinux_6_1, kLinux_6_9};
    ability_ = abilities[input.byte() % abilities.size()];
    kernel_.init(ability_);
    nodes_[FUSE_ROOT_ID] = 1;
  }

  void one_request() {
    const std::uint8_t who = input_.byte();
    kernel_.uid = (who & 1U) != 0 ? 1000 : 0;
    kernel_.gid = (who & 2U) != 0 ? 1000 : 0;
    kernel_.umask = (who & 4U) != 0 ? 0 : 022;
    const std::uint32_t opcode = input_.byte() % (kTmpfile + 1);
    const std::uint64_t node = some_node();
    switch (opcode) {
      case FUSE_LOOKUP:
        learn(kernel_.lookup(node, input_.name()));
        return;
      case FUSE_FORGET:
        if (node != FUSE_ROOT_ID) {
          kernel_.forget(node, nodes_[node]);
          nodes_.erase(node);
        }
        return;
      case FUSE_SETATTR: {
        auto in = input_.as<fuse_setattr_in>();
        in.size %= kMostBytes;
        // No handle: it is told to the kernel by none of ours.
        in.valid &= ~static_cast<std::uint32_t>(FATTR_FH);
        kernel_.ask(opcode, node, bytes_of(in));
        return;
      }
      case FUSE_SYMLINK: {
        const std::string name = input_.name();
        learn(kernel_.ask(opcode, node, zero_ended(name) + zero_ended(input_.name())));
        return;
      }
      case FUSE_MKNOD:
        learn_from<fuse_mknod_in>(opcode, node);
        return;
      case FUSE_MKDIR:
        learn_from<fuse_mkdir_in>(opcode, node);
        return;
      case FUSE_LINK: {
        fuse_link_in in{};
        in.oldnodeid = some_node();
        learn(kernel_.ask(opcode, node, bytes_of(in) + zero_ended(input_.name())));
        return;
      }
      case FUSE_RENAME: {
        fuse_rename_in in{};
        in.newdir = some_node();
        two_names(opcode, node, bytes_of(in));
        return;
      }
      case FUSE_RENAME2: {
        auto in = input_.as<fuse_rename2_in>();
        in.newdir = some_node();
        two_names(opcode, node, bytes_of(in));
        return;
      }
      case FUSE_OPEN:
      case FUSE_OPENDIR: {
        const auto reply = kernel_.ask(opcode, node, bytes_of(input_.as<fuse_open_in>()));
        if (reply.error == 0) {
          opened_.push_back({node, reply.as<fuse_open_out>().fh, opcode == FUSE_OPENDIR});
        }
        return;
      }
      case FUSE_CREATE:
      case kTmpfile:
        create(opcode, node);
        return;
      default:
        other(opcode, node);
    }
  }

 private:
  struct Opened {
    std::uint64_t node;
    std::uint64_t handle;
    bool is_directory;
  };

  std::uint64_t some_node() {
    auto chosen = nodes_.begin();
    std::advance(chosen, input_.byte() % nodes_.size());
    return chosen->first;
  }
  void learn(const FakeKernel::Reply& reply) {
    if (reply.error == 0) {
      const auto entry = reply.as<fuse_entry_out>();
      if (entry.nodeid != 0) {
        ++nodes_[entry.nodeid];
      }
    }
  }
  template <class T>
  void learn_from(std::uint32_t opcode, std::uint64_t node) {
    const T in = input_.as<T>();
    learn(kernel_.ask(opcode, node, bytes_of(in) + zero_ended(input_.name())));
  }
  void two_names(std::uint32_t opcode, std::uint64_t node, const std::string& in) {
    const std::string from = input_.name();
    kernel_.ask(opcode, node, in + zero_ended(from) + zero_ended(input_.name()));
  }
  void create(std::uint32_t opcode, std::uint64_t node) {
    const auto in = input_.as<fuse_create_in>();
    const auto reply = kernel_.ask(opcode, node, bytes_of(in) + zero_ended(input_.name()));
    if (reply.error == 0) {
      learn(reply);
      fuse_open_out out{};
      std::memcpy(&out, reply.payload.data() + sizeof(fuse_entry_out), sizeof out);
      opened_.push_back({reply.as<fuse_entry_out>().nodeid, out.fh, false});
    }
  }
  // Of what is open; null: nothing is.
  Opened* some_opened(bool directory) {
    for (std::size_t tries = input_.byte(), i = 0; i < opened_.size(); ++i) {
      Opened& candidate = opened_[(tries + i) % opened_.size()];
      if (candidate.is_directory == directory) {
        return &candidate;
      }
    }
    return nullptr;
  }

  // What gives no node.
  void other(std::uint32_t opcode, std::uint64_t node) {
    switch (opcode) {
      case FUSE_GETATTR: {
        auto in = input_.as<fuse_getattr_in>();
        in.getattr_flags = 0;
        kernel_.ask(opcode, node, bytes_of(in));
        return;
      }
      case FUSE_READLINK:
      case FUSE_STATFS:
        kernel_.ask(opcode, node);
        return;
      case FUSE_UNLINK:
      case FUSE_RMDIR:
      case FUSE_REMOVEXATTR:
        kernel_.ask(opcode, node, zero_ended(input_.name()));
        return;
      case FUSE_READ:
      case FUSE_WRITE:
        if (const Opened* const file = some_opened(false)) {
          read_or_write(opcode, *file);
        }
        return;
      case FUSE_READDIR:
      case FUSE_READDIRPLUS:
        if (const Opened* const dir = some_opened(true)) {
          auto in = input_.as<fuse_read_in>();
          in.fh = dir->handle;
          in.size %= 70000U;
          list(kernel_.ask(opcode, dir->node, bytes_of(in)), opcode == FUSE_READDIRPLUS);
        }
        return;
      case FUSE_RELEASE:
      case FUSE_RELEASEDIR:
        if (Opened* const closed = some_opened(opcode == FUSE_RELEASEDIR)) {
          fuse_release_in in{};
          in.fh = closed->handle;
          kernel_.ask(opcode, closed->node, bytes_of(in));
          opened_.erase(opened_.begin() + (closed - opened_.data()));
        }
        return;
      case FUSE_FSYNC:
      case FUSE_FSYNCDIR:
      case FUSE_FLUSH:
        kernel_.ask(opcode, node, bytes_of(input_.as<fuse_fsync_in>()) + std::string(8, '\0'));
        return;
      case FUSE_SETXATTR:
        set_attribute(node);
        return;
      case FUSE_GETXATTR:
      case FUSE_LISTXATTR: {
        fuse_getxattr_in in{};
        in.size = input_.byte() * 40U;
        kernel_.ask(opcode, node,
                    bytes_of(in) + (opcode == FUSE_GETXATTR ? zero_ended(input_.name()) : ""));
        return;
      }
      case FUSE_ACCESS:
        kernel_.ask(opcode, node, bytes_of(input_.as<fuse_access_in>()));
        return;
      case FUSE_FALLOCATE: {
        auto in = input_.as<fuse_fallocate_in>();
        in.offset %= kMostBytes;
        in.length %= kMostBytes;
        kernel_.ask(opcode, node, bytes_of(in));
        return;
      }
      case FUSE_LSEEK:
        kernel_.ask(opcode, node, bytes_of(input_.as<fuse_lseek_in>()));
        return;
      case FUSE_COPY_FILE_RANGE: {
        auto in = input_.as<fuse_copy_file_range_in>();
        in.nodeid_out = some_node();
        in.off_out %= kMostBytes;
        in.len %= kMostBytes;
        kernel_.ask(opcode, node, bytes_of(in));
        return;
      }
      case FUSE_IOCTL:
        inode_flags(node);
        return;
      default:
        return;  // a kernel does not send it, or without a reply
    }
  }

  void read_or_write(std::uint32_t opcode, const Opened& file) {
    if (opcode == FUSE_READ) {
      auto in = input_.as<fuse_read_in>();
      in.fh = file.handle;
      in.size %= kMostBytes;
      kernel_.ask(opcode, file.node, bytes_of(in));
      return;
    }
    auto in = input_.as<fuse_write_in>();
    const std::string data = input_.bytes(input_.byte());
    in.fh = file.handle;
    in.offset %= kMostBytes;
    in.size = static_cast<std::uint32_t>(data.size());
    kernel_.ask(opcode, file.node, bytes_of(in) + data);
  }

  void set_attribute(std::uint64_t node) {
    fuse_setxattr_in in{};
    in.flags = input_.byte() % 4U;
    const std::string name = input_.name();
    const std::string value = input_.bytes(input_.byte());
    in.size = static_cast<std::uint32_t>(value.size());
    std::string head = bytes_of(in);
    if ((ability_.flags & FUSE_SETXATTR_EXT) == 0) {
      head.resize(FUSE_COMPAT_SETXATTR_IN_SIZE);
    }
    kernel_.ask(FUSE_SETXATTR, node, head + zero_ended(name) + value);
  }

  void inode_flags(std::uint64_t node) {
    auto in = input_.as<fuse_ioctl_in>();
    unsigned flags = input_.byte() << 4U;
    // These would outlive the run.
    flags &= ~static_cast<unsigned>(FS_IMMUTABLE_FL | FS_APPEND_FL);
    const bool set = (in.cmd & 1U) != 0;
    in.flags &= static_cast<std::uint32_t>(FUSE_IOCTL_DIR);
    in.cmd = static_cast<std::uint32_t>((in.cmd & 6U) == 6U ? in.cmd
                                        : set               ? FS_IOC_SETFLAGS
                                                            : FS_IOC_GETFLAGS);
    in.in_size = set ? sizeof flags : 0;
    in.out_size = set ? 0 : sizeof flags;
    kernel_.ask(FUSE_IOCTL, node, bytes_of(in) + (set ? bytes_of(flags) : ""));
  }

  // The nodes of a listing are known to the kernel from then on.
  void list(const FakeKernel::Reply& reply, bool plus) {
    std::size_t at = 0;
    while (plus && reply.error == 0 && at + sizeof(fuse_direntplus) <= reply.payload.size()) {
      fuse_direntplus entry{};
      std::memcpy(&entry, reply.payload.data() + at, sizeof entry);
      if (entry.entry_out.nodeid != 0) {
        ++nodes_[entry.entry_out.nodeid];
      }
      const std::size_t length = sizeof(fuse_direntplus) + entry.dirent.namelen;
      at += (length + 7) / 8 * 8;
    }
  }

  FakeKernel kernel_;
  Input& input_;
  Ability ability_;
  std::map<std::uint64_t, std::uint64_t> nodes_;  // with the lookups that the kernel has
  std::vector<Opened> opened_;
};

}  // namespace

// They are files: requests/.
std::vector<std::string> layerfs::testing::fuzz_seeds() { return {}; }

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Ground ground;
  Input input(data, size);
  make_dirs(ground.dir.at("u"));
  {
    Client client(ground.config, input);
    for (std::size_t i = 0; i < kMostRequests && !input.is_over(); ++i) {
      client.one_request();
    }
  }
  if (ground.look() != ground.before) {
    std::fputs("a lower, or what is outside of the layers, has changed\n", stderr);
    std::abort();
  }
  const UniqueFd base(::open(ground.dir.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (const char* name : {"u", "w"}) {
    if (const auto removed = sys::remove_tree({base.get(), name}); !removed) {
      std::fputs("cannot remove what was written\n", stderr);
      std::abort();
    }
  }
  return 0;
}
