// fault-test: what is left of a mount whose daemon is killed or meets errors at any of its
// system calls, and of an upper whose power is cut. The tests labelled `fault` run one case in
// some; all of them, as root, in about 15 minutes, some 15 hours (--every makes it fewer) and
// 10 minutes each:
//
//   build/release/bin/fault-test crash --jobs 2
//   build/release/bin/fault-test errors --jobs 2
//   build/release/bin/fault-test kill --rounds 1000
//   build/release/bin/fault-test power --cuts 200
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <set>
#include <stdexcept>

#include "tests/fault/bench.h"
#include "tests/testlib/namespaces.h"

namespace layerfs::fault {
namespace {

constexpr int kSkipped = 77;

constexpr const char* kHelp = R"(usage: fault-test crash|errors|kill|power [options]
As root. Does each of many operations on a small mount, again and again, and each time
  crash   kills the daemon before the next of its system calls that change a layer
  errors  lets the next of its system calls that change or read a layer fail
Then the tree must be that before or after the operation.
  kill    instead runs a parallel load and kills the daemon at random moments; what was done,
          or written and on disk, must be there
  power   runs such a load with the upper on ext4, xfs and btrfs, on a disk that remembers each
          write and flush; then shows what a cut of the power at random moments left: what was on
          disk by fsync must be there, and each change whole or not at all
  --variant NAME  one way of mounting; default: all
  --only TEXT     operations whose names contain it
  --at N          only that call, from 1
  --error NAME    only that error: EIO, ENOSPC, ...
  --every K       one case in K
  --rounds N      kills of each way of mounting                [20]
  --fs NAME       of power: one of the file systems
  --cuts N        of power: of each file system and way of mounting  [20]
  --steps N       of power: of each of the four that work            [150]
  --seed S        of the load and the moments  [from the clock; always printed]
  --jobs J        processes
  --dir DIR       layers below it, on its filesystem; default: a tmpfs
  --list          names of variants and operations
Exit: 0 nothing found, 1 something, 2 usage, 77 cannot run here (with the reason).
)";

[[noreturn]] void skip(const std::string& why) {
  std::printf("SKIP: %s\n", why.c_str());
  std::exit(kSkipped);
}

[[noreturn]] void usage_error(const std::string& what) {
  std::fprintf(stderr, "fault-test: %s; see --help\n", what.c_str());
  std::exit(2);
}

int error_from(const std::string& name) {
  for (int error = 1; error < 134; ++error) {
    if (::strerrorname_np(error) != nullptr && name == ::strerrorname_np(error)) {
      return error;
    }
  }
  usage_error("no error " + name);
}

struct Options {
  std::string mode;
  Selection selection;
  std::size_t jobs = 1;
  std::size_t rounds = 20;
  std::string kind;
  std::size_t cuts = 20;
  std::size_t steps = 150;
  std::uint64_t seed = static_cast<std::uint64_t>(std::time(nullptr));
  std::string dir;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--help") {
      std::fputs(kHelp, stdout);
      std::exit(0);
    }
    if (word == "--list") {
      for (const Variant& variant : variants()) {
        std::printf("variant %s\n", variant.name.c_str());
      }
      for (const Operation& operation : operations()) {
        std::printf("%s\n", operation.name.c_str());
      }
      std::exit(0);
    }
    if (!word.starts_with("--")) {
      options.mode = word;
      continue;
    }
    if (i + 1 >= argc) {
      usage_error(word + " is unknown or lacks its value");
    }
    const std::string value = argv[++i];
    const auto number = [&] {
      std::size_t parsed = 0;
      const char* const end = value.data() + value.size();
      if (std::from_chars(value.data(), end, parsed).ptr != end || value.empty()) {
        usage_error(word + " takes a number, not '" + value + "'");
      }
      return parsed;
    };
    if (word == "--variant") {
      options.selection.variant = value;
    } else if (word == "--only") {
      options.selection.only = value;
    } else if (word == "--at") {
      options.selection.at = number();
    } else if (word == "--error") {
      options.selection.error = error_from(value);
    } else if (word == "--every") {
      options.selection.every = std::max<std::size_t>(number(), 1);
    } else if (word == "--rounds") {
      options.rounds = number();
    } else if (word == "--fs") {
      options.kind = value;
    } else if (word == "--cuts") {
      options.cuts = number();
    } else if (word == "--steps") {
      options.steps = number();
    } else if (word == "--seed") {
      options.seed = number();
    } else if (word == "--jobs") {
      options.jobs = std::max<std::size_t>(number(), 1);
    } else if (word == "--dir") {
      options.dir = std::filesystem::absolute(value);
    } else {
      usage_error(word + " is unknown");
    }
  }
  const std::set<std::string> modes = {"crash", "errors", "kill", "power"};
  if (!modes.contains(options.mode)) {
    usage_error("no mode " + options.mode);
  }
  const auto& kinds = disk_kinds();
  if (!options.kind.empty() && std::find(kinds.begin(), kinds.end(), options.kind) == kinds.end()) {
    usage_error("no file system " + options.kind);
  }
  return options;
}

// Gives the directory in which the layers are made.
std::string prepare_ground(const Options& options) {
  if (::geteuid() != 0) {
    skip("needs root to mount");
  }
  if (::access("/dev/fuse", R_OK | W_OK) < 0) {
    skip(std::string("/dev/fuse does not open: ") + std::strerror(errno));
  }
  const std::string dir = options.dir.empty() ? "/var/tmp" : options.dir;
  testing::enter_namespaces();
  std::string base = dir + "/fault-test.XXXXXX";
  if (::mkdtemp(base.data()) == nullptr) {
    usage_error(base + ": " + std::strerror(errno));
  }
  if (options.dir.empty() && ::mount("fault-test", base.c_str(), "tmpfs", 0, "mode=0755") < 0) {
    skip(std::string("no tmpfs: ") + std::strerror(errno));
  }
  return base;
}

// The worse of two exit codes: a skip says least.
int worse(int a, int b) { return a == 1 || b == 1 ? 1 : std::min(a, b); }

int cut_power(const Options& options, const std::string& dir, const Variant& variant) {
  int worst = kSkipped;
  for (const std::string& kind : disk_kinds()) {
    if (!options.kind.empty() && kind != options.kind) {
      continue;
    }
    if (const std::string why = lacks(kind); !why.empty()) {
      std::printf("SKIP: %s\n", why.c_str());
      continue;
    }
    const std::string place = dir + "/" + kind;
    std::filesystem::create_directories(place);
    worst =
        worse(worst, lose_power(place, variant, {kind, options.cuts, options.steps, options.seed}));
  }
  return worst;
}

// Runs `options` for one variant below `base`, which it makes.
int run_variant(const Options& options, const std::string& base, const Variant& variant,
                std::size_t part) {
  const std::string dir = base + "/" + variant.name + std::to_string(part);
  std::filesystem::create_directories(dir);
  Selection selection = options.selection;
  selection.part = part;
  selection.parts = options.jobs;
  ::umask(022);
  try {
    if (options.mode == "kill") {
      return kill_at_random(dir, variant, options.rounds, options.seed);
    }
    if (options.mode == "power") {
      return cut_power(options, dir, variant);
    }
    return options.mode == "crash" ? crash_everywhere(dir, variant, selection)
                                   : fail_everywhere(dir, variant, selection);
  } catch (const std::exception& error) {
    const std::string what = error.what();
    if (what.find("passthrough cannot be had") != std::string::npos ||
        what.find("cannot be traced") != std::string::npos ||
        what.find("x86-64") != std::string::npos) {
      std::printf("SKIP: %s\n", what.c_str());
      return kSkipped;
    }
    std::printf("%s\n", what.c_str());
    return 1;
  }
}

int run_part(const Options& options, const std::string& base, std::size_t part) {
  int worst = kSkipped;
  for (const Variant& variant : variants()) {
    if ((options.mode == "kill" || options.mode == "power") && variant.name == "volatile") {
      continue;  // promises nothing, and the next mount is refused
    }
    if (!options.selection.variant.empty() && variant.name != options.selection.variant) {
      continue;
    }
    const int code = run_variant(options, base, variant, part);
    worst = worse(worst, code);
  }
  return worst;
}

int main_of(int argc, char** argv) {
  const Options options = parse(argc, argv);
  const std::string base = prepare_ground(options);
  std::vector<pid_t> children;
  for (std::size_t part = 0; part < options.jobs; ++part) {
    const pid_t child = ::fork();
    if (child == 0) {
      const int code = run_part(options, base, part);
      std::fflush(stdout);
      ::_exit(code);
    }
    children.push_back(child);
  }
  int worst = kSkipped;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    worst = worse(worst, code);
  }
  ::umount2(base.c_str(), MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove_all(base, ignored);
  return worst;
}

}  // namespace
}  // namespace layerfs::fault

int main(int argc, char** argv) { return layerfs::fault::main_of(argc, argv); }
