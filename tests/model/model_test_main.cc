// model-test: random operations on a mount and on a plain directory, compared after each.
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "tests/model/reference_union.h"
#include "tests/model/supervise.h"

namespace layerfs::model {
namespace {

constexpr int kSkipped = 77;
constexpr int kShownOps = 20;

constexpr const char* kHelp =
    R"(usage: model-test [options]
Runs random operations on a mount and on a plain directory and compares them.
  --fs layerfs|overlay|plain  what is tested                              [layerfs]
  --io passthrough|cached|auto  the I/O mode of layerfs                   [cached]
  --daemon FILE               layerfsd             [layerfsd beside this program]
  --mount-cmd CMD, --umount-cmd CMD  use these instead; {lowers} {upper} {work} {init}
                              {mountpoint} {io} are replaced
  -o KEY=VALUE                threads, metacopy, index, redirect, volatile, timeout,
                              whiteout, xattr, override_stat, log_level
  --ops N                     operations in all                           [100000]
  --episode N                 operations on one starting tree             [4000]
  --seed S                    [from the clock; always printed]
  --layers K                  lower layers of a starting tree, at most    [4]
  --dir DIR                   work below it                               [/var/tmp]
  --backing tmpfs|dir         a fresh tmpfs mounted there, or DIR's own filesystem [tmpfs]
  --no-dir-nlink --no-inode-numbers --no-remount --no-rotate --no-init --no-drop-caches
  --no-odd-links              no hard links of symlinks and special files below
  --ignore KIND               pass over: "directory mtime" mtime nlink size xattrs
                              d_ino "d_ino of .." "set-id bits" "result of OPERATION"
  --now-tolerance SECONDS     times that were set to now may differ by it      [2]
  --verify-with-overlayfs     each upper, done with, is also read by kernel overlayfs
  --stale-readers             a descriptor opened for reading may miss later writes
  --stale-map-times           writes through a mapping may miss st_mtime
  --replay FILE               run the layers and operations in FILE instead
  --shrink                    with --replay: minimise FILE
  --shrink-seconds N          time for minimising a difference, 0: do not  [120]
  --report FILE               write the reproduction there too
  --sabotage KIND             damage the tested side half way: mode owner time content
                              size name xattr link target
  --expect KIND               succeed only if a difference of this kind is found
Exit: 0 no difference, 1 a difference, 2 usage, 77 cannot run here (with the reason).
)";

struct Options {
  RunSettings run;
  std::int64_t ops = 100'000;
  std::int64_t episode = 4000;
  std::uint64_t seed = 0;
  int layers = 4;
  bool init = true;
  bool odd_links = true;
  bool tmpfs = true;
  bool shrink_only = false;
  int shrink_seconds = 120;
  std::string replay;
  std::string report;
  std::string expect;
  OpOptions op_options;
};

[[noreturn]] void usage_error(const std::string& what) {
  std::cerr << "model-test: " << what << "; see model-test --help\n";
  std::exit(2);
}

[[noreturn]] void skip(const std::string& why) {
  std::cout << "SKIP: " << why << "\n";
  std::exit(kSkipped);
}

std::int64_t to_number(const std::string& key, const std::string& text) {
  char* end = nullptr;
  const std::int64_t value = std::strtoll(text.c_str(), &end, 0);
  if (text.empty() || *end != '\0') {
    usage_error(key + " " + text + " is not a number");
  }
  return value;
}

bool set_flag(Options& options, const std::string& key) {
  if (key == "--no-dir-nlink") {
    options.run.compare.directory_nlink = false;
  } else if (key == "--no-inode-numbers") {
    options.run.compare.inode_numbers = false;
  } else if (key == "--no-remount") {
    options.op_options.remounts = false;
  } else if (key == "--no-rotate") {
    options.op_options.rotations = false;
  } else if (key == "--no-init") {
    options.init = false;
  } else if (key == "--no-drop-caches") {
    options.op_options.drop_caches = false;
  } else if (key == "--no-odd-links") {
    options.odd_links = false;
  } else if (key == "--verify-with-overlayfs") {
    options.run.verify_with_overlayfs = true;
    options.init = false;  // it has none
  } else if (key == "--stale-readers") {
    options.run.stale_readers = true;
  } else if (key == "--stale-map-times") {
    options.run.stale_map_times = true;
  } else if (key == "--shrink") {
    options.shrink_only = true;
  } else {
    return false;
  }
  return true;
}

bool set_value(Options& options, const std::string& key, const std::string& value) {
  MountSettings& mount = options.run.mount;
  if (key == "--fs") {
    mount.kind = value == "plain"     ? FsKind::Plain
                 : value == "overlay" ? FsKind::Overlay
                 : value == "layerfs" ? FsKind::Layerfs
                                      : (usage_error("no --fs " + value), FsKind::Plain);
  } else if (key == "--io") {
    mount.io = value;
  } else if (key == "--daemon") {
    mount.daemon = value;
  } else if (key == "--mount-cmd") {
    mount.mount_command = value;
  } else if (key == "--umount-cmd") {
    mount.unmount_command = value;
  } else if (key == "-o") {
    mount.options.push_back(value);
  } else if (key == "--ops") {
    options.ops = to_number(key, value);
  } else if (key == "--episode") {
    options.episode = to_number(key, value);
  } else if (key == "--seed") {
    options.seed = static_cast<std::uint64_t>(to_number(key, value));
  } else if (key == "--layers") {
    options.layers = static_cast<int>(to_number(key, value));
  } else if (key == "--dir") {
    options.run.dir = value;
  } else if (key == "--backing") {
    options.tmpfs =
        value == "tmpfs" || (value != "dir" && (usage_error("no --backing " + value), true));
  } else if (key == "--ignore") {
    options.run.compare.ignored.insert(value);
  } else if (key == "--now-tolerance") {
    options.run.compare.now_tolerance = std::strtod(value.c_str(), nullptr);
  } else if (key == "--replay") {
    options.replay = value;
  } else if (key == "--shrink-seconds") {
    options.shrink_seconds = static_cast<int>(to_number(key, value));
  } else if (key == "--report") {
    options.report = value;
  } else if (key == "--sabotage") {
    const auto sabotage = sabotage_from(value);
    options.run.sabotage =
        sabotage ? *sabotage : (usage_error("no --sabotage " + value), Sabotage::None);
  } else if (key == "--expect") {
    options.expect = value;
  } else {
    return false;
  }
  return true;
}

Options parse_options(int argc, char** argv) {
  Options options;
  options.run.dir = "/var/tmp";
  options.run.mount.kind = FsKind::Layerfs;
  options.seed =
      static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count()) %
      1'000'000'007;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (key == "--help") {
      std::cout << kHelp;
      std::exit(0);
    }
    if (set_flag(options, key)) {
      continue;
    }
    if (i + 1 >= argc || !set_value(options, key, argv[i + 1])) {
      usage_error(key + (i + 1 >= argc ? " is unknown or lacks its value" : " is unknown"));
    }
    ++i;
  }
  if (options.run.mount.daemon.empty()) {
    options.run.mount.daemon =
        std::filesystem::read_symlink("/proc/self/exe").parent_path() / "layerfsd";
  }
  if (options.run.mount.kind == FsKind::Overlay) {
    // What kernel overlayfs documents as non-standard (Documentation/filesystems/overlayfs.rst).
    options.run.compare.directory_nlink = false;
    options.run.compare.listed_inode_numbers = false;
    options.run.stale_readers = true;
    options.init = false;
  }
  return options;
}

void require_passthrough(const MountSettings& settings, const std::string& dir) {
  for (const char* name : {"/a", "/u", "/m"}) {
    ::mkdir((dir + name).c_str(), 0755);
  }
  MountedTree tree(settings);
  const std::string error =
      tree.mount({{dir + "/a"}, dir + "/u", dir + "/w", "", dir + "/m", dir + "/log"});
  if (error.find("passthrough cannot be had") != std::string::npos) {
    skip(error);
  }
  if (error.empty()) {
    tree.unmount();
  }
}

// A mount namespace of our own: whatever happens, nothing stays mounted afterwards.
void prepare_ground(Options& options) {
  if (::geteuid() != 0) {
    skip("needs root: it makes device nodes, sets owners and trusted attributes");
  }
  const MountSettings& mount = options.run.mount;
  if (mount.kind == FsKind::Layerfs && ::access("/dev/fuse", R_OK | W_OK) < 0) {
    skip(std::string("/dev/fuse does not open: ") + std::strerror(errno));
  }
  if (mount.kind == FsKind::Layerfs && mount.mount_command.empty() &&
      ::access(mount.daemon.c_str(), X_OK) < 0) {
    skip("no program " + mount.daemon + "; build it or name it by --daemon");
  }
  const std::string base = options.run.dir + "/model-test." + std::to_string(::getpid());
  if (::unshare(CLONE_NEWNS) < 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) {
    skip(std::string("no mount namespace of our own: ") + std::strerror(errno));
  }
  std::error_code error;
  std::filesystem::create_directories(base, error);
  if (error) {
    usage_error("--dir " + options.run.dir + ": " + error.message());
  }
  if (options.tmpfs && ::mount("model-test", base.c_str(), "tmpfs", 0, "mode=0755") < 0) {
    skip(std::string("no tmpfs: ") + std::strerror(errno));
  }
  options.run.dir = base + "/run";
  ::mkdir(options.run.dir.c_str(), 0755);
  if (mount.kind == FsKind::Overlay || options.run.verify_with_overlayfs) {
    const std::string& dir = options.run.dir;  // emptied before each run
    const std::string layers = "lowerdir=" + dir + "/a:" + dir + "/b";
    ::mkdir((dir + "/a").c_str(), 0755);
    ::mkdir((dir + "/b").c_str(), 0755);
    if (::mount("overlay", dir.c_str(), "overlay", 0, layers.c_str()) < 0) {
      skip(std::string("no kernel overlayfs: ") + std::strerror(errno));
    }
    ::umount2(dir.c_str(), MNT_DETACH);
  }
  if (mount.kind == FsKind::Layerfs && mount.mount_command.empty() && mount.io == "passthrough") {
    require_passthrough(mount, options.run.dir);
  }
  // No supplementary groups: those that operations run as have none either.
  if (::setgroups(0, nullptr) < 0) {
    skip(std::string("setgroups: ") + std::strerror(errno));
  }
}

Episode make_episode(const Options& options, std::uint64_t seed, std::int64_t count) {
  Random random(seed);
  Episode episode;
  TreeOptions tree;
  tree.layers = static_cast<int>(random.between(1, options.layers));
  tree.odd_links = options.odd_links;
  tree.long_name = options.op_options.long_name;
  tree.overlay_forms_only =
      options.run.mount.kind == FsKind::Overlay || options.run.verify_with_overlayfs;
  episode.init = options.init && options.run.mount.kind == FsKind::Layerfs && tree.layers > 1 &&
                 random.chance(20);
  episode.op_options = options.op_options;
  episode.op_options.rotations = options.op_options.rotations && random.chance(60);
  episode.layers = generate_layers(random.next(), tree);
  // The names that a layer hides are counted relative to that layer's inode; they are
  // not a part of an upper that becomes a layer.
  for (const int hidden : merge_layers(episode.layers, episode.init).hidden_names) {
    episode.op_options.rotations = episode.op_options.rotations && hidden == 0;
  }
  episode.seed = random.next();
  episode.count = count;
  return episode;
}

std::string report(const Options& options, const Episode& episode, const Failure& failure,
                   std::uint64_t episode_seed) {
  std::ostringstream out;
  out << "# " << failure.difference.kind << " (--io " << options.run.mount.io << ", --seed "
      << options.seed << ", episode " << episode_seed << ", step " << failure.step << ")\n";
  const std::string& detail = failure.difference.detail;
  out << "# " << detail.substr(0, detail.find('\n')) << "\n" << episode_text(episode);
  return out.str();
}

void show_difference(const Options& options, const Episode& episode, const Failure& failure,
                     std::uint64_t episode_seed, std::int64_t step_in_all) {
  std::cout << "difference: " << failure.difference.kind << "\n  " << failure.difference.detail
            << "\n  seed " << options.seed << ", operation " << step_in_all << " (episode seed "
            << episode_seed << ", step " << failure.step << " of it)\n  last operations:\n";
  const std::size_t count = episode.ops.size();
  for (std::size_t i = count > kShownOps ? count - kShownOps : 0; i < count; ++i) {
    std::cout << "    " << i + 1 << " " << to_text(episode.ops[i]) << "\n";
  }
  std::cout.flush();
}

int finish(const Options& options, const std::optional<Failure>& failure) {
  if (options.expect.empty()) {
    return failure ? 1 : 0;
  }
  const bool found = failure && failure->difference.kind == options.expect;
  std::cout << (found ? "found the expected difference\n"
                      : "did not find a difference of kind " + options.expect + "\n");
  return found ? 0 : 1;
}

int handle_failure(const Options& options, Episode episode, const Failure& failure,
                   std::uint64_t episode_seed, std::int64_t step_in_all) {
  show_difference(options, episode, failure, episode_seed, step_in_all);
  if (options.shrink_seconds > 0 && options.expect.empty()) {
    const Episode small = shrink(episode, failure, options.run, options.shrink_seconds);
    const SupervisedRun again = run_supervised(small, options.run, 30);
    const bool same = again.failure && again.failure->difference.kind == failure.difference.kind;
    if (!same) {
      std::cout << "the reproduction is not certain: the replay "
                << (again.failure ? "gave " + again.failure->difference.kind : "had no difference")
                << "\n";
    }
    const std::string text = report(options, small, same ? *again.failure : failure, episode_seed);
    std::cout << "reproduction (save it, then --replay it):\n" << text;
    if (!options.report.empty()) {
      std::ofstream(options.report) << text;
    }
  }
  return finish(options, failure);
}

int replay(const Options& options) {
  std::ifstream in(options.replay);
  if (!in) {
    usage_error("--replay " + options.replay + " does not open");
  }
  std::ostringstream text;
  text << in.rdbuf();
  Episode episode;
  try {
    episode = parse_episode(text.str());
  } catch (const std::exception& error) {
    usage_error("--replay " + options.replay + ": " + error.what());
  }
  const SupervisedRun run = run_supervised(episode, options.run, 60);
  if (!run.failure) {
    std::cout << "no difference\n";
    return finish(options, run.failure);
  }
  if (!options.shrink_only) {
    show_difference(options, episode, *run.failure, 0, run.failure->step);
    return finish(options, run.failure);
  }
  return handle_failure(options, episode, *run.failure, 0, run.failure->step);
}

int random_run(const Options& options) {
  std::cout << "seed " << options.seed << ", " << options.ops << " operations\n";
  std::cout.flush();
  const auto start = std::chrono::steady_clock::now();
  std::int64_t done = 0;
  for (std::uint64_t number = 0; done < options.ops; ++number) {
    const std::uint64_t seed = mix(options.seed * 1'000'003 + number);
    const std::int64_t count = std::min(options.episode, options.ops - done);
    Episode episode = make_episode(options, seed, count);
    const SupervisedRun run = run_supervised(episode, options.run, 60);
    if (run.failure) {
      episode.ops = run.ops;
      return handle_failure(options, episode, *run.failure, seed, done + run.failure->step);
    }
    done += count;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::cout << done << " operations without a difference in " << seconds << " s\n";
  return finish(options, std::nullopt);
}

int main_of(int argc, char** argv) {
  Options options = parse_options(argc, argv);
  if (!options.replay.empty()) {
    options.replay = std::filesystem::absolute(options.replay);
  }
  if (!options.report.empty()) {
    options.report = std::filesystem::absolute(options.report);
  }
  options.run.dir = std::filesystem::absolute(options.run.dir);
  options.run.mount.daemon = std::filesystem::absolute(options.run.mount.daemon);
  options.op_options.zero_range = !options.tmpfs;
  if (options.run.mount.has_option("whiteout=oci")) {
    // A longer name could not be hidden by .wh.NAME; statfs(2) tells.
    options.op_options.long_name = kMaxName - 4;
    options.run.compare.ignored.insert("result of statfs");
  }
  prepare_ground(options);
  const int code = options.replay.empty() ? random_run(options) : replay(options);
  const std::string base = std::filesystem::path(options.run.dir).parent_path();
  ::umount2(base.c_str(), MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove_all(base, ignored);
  return code;
}

}  // namespace
}  // namespace layerfs::model

int main(int argc, char** argv) { return layerfs::model::main_of(argc, argv); }
