#include "tools/run/places.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "layers/sys/syscalls.h"
#include "tools/run/cannot.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

constexpr std::size_t kLongestName = 64;
constexpr auto kRemovalPatience = std::chrono::seconds(10);
constexpr auto kRemovalStep = std::chrono::milliseconds(5);

const char* environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
  return value != nullptr && *value == '/' ? value : nullptr;
}

Outcome<void> make_directory(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) < 0 || ::chmod(path.c_str(), mode) < 0) {
    return cannot("make '" + path + "'", Errno::last());
  }
  return {};
}

// A directory that nobody else can have put there or can change.
Outcome<void> own_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) < 0 && errno != EEXIST) {
    return cannot("make '" + path + "'", Errno::last());
  }
  struct stat st {};
  if (::lstat(path.c_str(), &st) < 0) {
    return cannot("look at '" + path + "'", Errno::last());
  }
  if (!S_ISDIR(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 022) != 0) {
    return failed("'" + path + "' is not a directory that belongs to you alone; remove it");
  }
  return {};
}

// What the topmost layer that has `path` has there; 0: none has it.
Outcome<mode_t> type_in_layers(const RunConfig& config, const char* path) {
  std::vector<std::string> layers = config.layers;
  if (!config.upper.empty()) {
    layers.insert(layers.begin(), config.upper);
  }
  for (const std::string& layer : layers) {
    struct stat st {};
    if (::lstat((layer + "/" + path).c_str(), &st) == 0) {
      return st.st_mode & S_IFMT;
    }
    if (!is_absence(Errno::last())) {
      return cannot("look at '" + layer + "/" + path + "'", Errno::last());
    }
  }
  return mode_t{0};
}

std::string hosts_text(const std::string& hostname) {
  return "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" + hostname +
         "\n";
}

Outcome<std::string> resolv_text(Network network) {
  if (network == Network::None) {
    return std::string("# no network\n");
  }
  LFS_ASSIGN(const auto text, read_text_if_there("/etc/resolv.conf"));
  return text.value_or(std::string());
}

Outcome<void> remove_tree_at(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const auto parent = sys::open_path(path.substr(0, slash), O_PATH | O_DIRECTORY);
  if (!parent) {
    return is_absence(parent.error())
               ? Outcome<void>()
               : Outcome<void>(cannot("remove '" + path + "'", parent.error()));
  }
  const sys::At at{parent->get(), path.c_str() + slash + 1};
  const auto limit = std::chrono::steady_clock::now() + kRemovalPatience;
  for (;;) {
    const auto done = sys::remove_tree(at);
    if (done) {
      return {};
    }
    const auto left = sys::try_stat_at(at);
    if (left && !*left) {
      return {};
    }
    // A daemon that is ending removes and makes files of its own meanwhile.
    const bool meanwhile = is_absence(done.error()) || done.error() == Errno(ENOTEMPTY);
    if (!meanwhile || std::chrono::steady_clock::now() > limit) {
      return cannot("remove '" + path + "'", done.error());
    }
    std::this_thread::sleep_for(kRemovalStep);
  }
}

}  // namespace

Outcome<std::string> state_home() {
  std::string home = "/run/layerfs-run";
  if (::geteuid() != 0) {
    const char* runtime = environment("XDG_RUNTIME_DIR");
    home = runtime != nullptr && ::access(runtime, W_OK) == 0
               ? std::string(runtime) + "/layerfs-run"
               : "/tmp/layerfs-run-" + std::to_string(::geteuid());
  }
  LFS_TRY(own_directory(home));
  return home;
}

Outcome<std::string> random_id() {
  std::array<unsigned char, 6> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return cannot("get random bytes", Errno::last());
  }
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (const unsigned char byte : bytes) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

bool is_valid_name(std::string_view name) {
  const auto allowed = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '+' || c == '-' ||
           c == '.';
  };
  return !name.empty() && name.size() <= kLongestName && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), allowed);
}

Outcome<Places> make_places(const std::string& name, bool with_scratch) {
  LFS_ASSIGN(const std::string home, state_home());
  Places out;
  out.state = home + "/" + name;
  if (::mkdir(out.state.c_str(), 0700) < 0) {
    return errno == EEXIST ? failed("there is a container '" + name +
                                    "' already; stop it, or take another --name")
                           : cannot("make '" + out.state + "'", Errno::last());
  }
  const char* temporary = environment("TMPDIR");
  std::string data =
      std::string(temporary == nullptr ? "/var/tmp" : temporary) + "/layerfs-run-XXXXXX";
  if (::mkdtemp(data.data()) == nullptr) {
    const Errno error = Errno::last();
    ::rmdir(out.state.c_str());
    return cannot("make a directory in '" + data.substr(0, data.rfind('/')) + "'", error);
  }
  out.data = data;
  out.root = out.state + "/root";
  out.init = out.data + "/init";
  LFS_TRY(make_directory(out.root, 0700));
  if (with_scratch) {
    out.scratch = out.data + "/upper";
    LFS_TRY(make_directory(out.scratch, 0755));
  }
  return out;
}

Outcome<void> fill_init_layer(const RunConfig& config, const Places& places) {
  LFS_TRY(make_directory(places.init, 0755));
  for (const char* name : {"dev", "proc", "sys"}) {
    LFS_TRY(make_directory(places.init + "/" + name, 0755));
  }
  LFS_ASSIGN(const mode_t etc, type_in_layers(config, "etc"));
  if (etc != 0 && etc != S_IFDIR) {
    return {};
  }
  LFS_TRY(make_directory(places.init + "/etc", 0755));
  LFS_TRY(make_text(places.init + "/etc/hosts", hosts_text(config.hostname), 0644));
  LFS_TRY(make_text(places.init + "/etc/hostname", config.hostname + "\n", 0644));
  LFS_ASSIGN(const std::string resolv, resolv_text(config.network));
  LFS_TRY(make_text(places.init + "/etc/resolv.conf", resolv, 0644));
  if (::symlink("/proc/mounts", (places.init + "/etc/mtab").c_str()) < 0) {
    return cannot("make /etc/mtab", Errno::last());
  }
  return {};
}

Outcome<void> remove_places(const Places& places) {
  auto first = remove_tree_at(places.data);
  auto second = remove_tree_at(places.state);
  return first ? second : first;
}

}  // namespace layerfs::run
