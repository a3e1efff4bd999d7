// fault-test: what is left of a mount whose daemon is killed or meets errors at any of its
// system calls. The tests labelled `fault` run one case in some; all of them, as root, in
// about 15 minutes, some 15 hours (--every makes it fewer) and 10 minutes:
//
//   build/release/bin/fault-test crash --jobs 2
//   build/release/bin/fault-test errors --jobs 2
//   build/release/bin/fault-test kill --rounds 1000
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <stdexcept>

#include "tests/fault/bench.h"
#include "tests/testlib/namespaces.h"

namespace layerfs::fault {
namespace {

constexpr int kSkipped = 77;

constexpr const char* kHelp = R"(usage: fault-test crash|errors|kill [options]
As root. Does each of many operations on a small mount, again and again, and each time
  crash   kills the daemon before the next of its system calls that change a layer
  errors  lets the next of its system calls that change or read a layer fail
Then the tree must be that before or after the operation.
  kill    instead runs a parallel load and kills the daemon at random moments; what was done,
          or written and on disk, must be there
  --variant NAME  one way of mounting; default: all
  --only TEXT     operations whose names contain it
  --at N          only that call, from 1
  --error NAME    only that error: EIO, ENOSPC, ...
  --every K       one case in K
  --rounds N      kills of each way of mounting                [20]
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
    const auto number = [&value] {
      return static_cast<std::size_t>(std::strtoul(value.c_str(), nullptr, 10));
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
  if (options.mode != "crash" && options.mode != "errors" && options.mode != "kill") {
    usage_error("no mode " + options.mode);
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
    if (options.mode == "kill" && variant.name == "volatile") {
      continue;  // promises nothing, and the next mount is refused
    }
    if (!options.selection.variant.empty() && variant.name != options.selection.variant) {
      continue;
    }
    const int code = run_variant(options, base, variant, part);
    worst = code == 1 || worst == 1 ? 1 : std::min(code, worst);
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
    worst = code == 1 || worst == 1 ? 1 : std::min(code, worst);
  }
  ::umount2(base.c_str(), MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove_all(base, ignored);
  return worst;
}

}  // namespace
}  // namespace layerfs::fault

int main(int argc, char** argv) { return layerfs::fault::main_of(argc, argv); }
