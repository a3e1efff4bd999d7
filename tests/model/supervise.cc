#include "tests/model/supervise.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/model/materialize.h"

namespace layerfs::model {
namespace {

using Clock = std::chrono::steady_clock;

std::string read_text(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

void run_child(const Episode& episode, const RunSettings& settings) {
  ::signal(SIGPIPE, SIG_IGN);
  std::optional<Failure> failure;
  try {
    failure = run_episode(episode, settings);
  } catch (const std::exception& error) {
    failure = Failure{{"harness", error.what()}, 0};
  }
  if (failure) {
    Record record;
    record.word = "failure";
    record.add_number("step", failure->step);
    record.add("kind", failure->difference.kind);
    record.add("detail", failure->difference.detail);
    std::ofstream(settings.dir + "/result") << format_record(record) << "\n";
  } else {
    std::ofstream(settings.dir + "/result") << "same\n";
  }
}

// Ends what may hang: the connection first, so that nobody waits for the daemon.
void break_mount(const RunSettings& settings, pid_t child) {
  unsigned minor = 0;
  int daemon = 0;
  std::istringstream(read_text(settings.dir + "/minor")) >> minor >> daemon;
  if (settings.mount.kind == FsKind::Layerfs) {
    std::ofstream("/sys/fs/fuse/connections/" + std::to_string(minor) + "/abort") << "1\n";
  }
  ::kill(child, SIGKILL);
  if (daemon > 0) {
    ::kill(daemon, SIGKILL);
  }
}

void clear(const std::string& dir) {
  ::umount2((dir + "/side/t").c_str(), MNT_DETACH);
  remove_recursively(dir);
  ::mkdir(dir.c_str(), 0755);
}

std::vector<Op> logged_ops(const std::string& dir) {
  std::vector<Op> out;
  std::ifstream in(dir + "/ops.log");
  for (std::string line; std::getline(in, line);) {
    const std::optional<Record> record = parse_record(line);
    const std::optional<Op> op = record ? op_from_record(*record) : std::nullopt;
    if (op) {
      out.push_back(*op);
    }
  }
  return out;
}

// True: ended by itself.
bool wait_for(pid_t child, const std::string& log, int quiet_seconds) {
  off_t size = -1;
  auto changed = Clock::now();
  for (;;) {
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == child) {
      return true;
    }
    struct stat st {};
    if (::stat(log.c_str(), &st) == 0 && st.st_size != size) {
      size = st.st_size;
      changed = Clock::now();
    }
    if (Clock::now() - changed > std::chrono::seconds(quiet_seconds)) {
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
}

class Shrinker {
 public:
  Shrinker(const Failure& failure, const RunSettings& settings, int seconds)
      : kind_(failure.difference.kind),
        settings_(settings),
        end_(Clock::now() + std::chrono::seconds(seconds)) {}

  bool fails(const Episode& episode) {
    if (Clock::now() > end_) {
      return false;
    }
    const SupervisedRun run = run_supervised(episode, settings_, 20);
    return run.failure && run.failure->difference.kind == kind_;
  }
  bool out_of_time() const { return Clock::now() > end_; }

  // Leaves out ever smaller pieces of `items`; `put` makes an episode of the rest.
  template <typename T>
  std::vector<T> minimise(std::vector<T> items, const auto& put) {
    for (std::size_t piece = std::max<std::size_t>(items.size() / 2, 1); !out_of_time();) {
      bool dropped = false;
      // From the end: what comes after the cause falls away first.
      for (std::size_t end = items.size(); end > 0 && !out_of_time();) {
        const std::size_t start = end > piece ? end - piece : 0;
        std::vector<T> fewer(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(start));
        fewer.insert(fewer.end(), items.begin() + static_cast<std::ptrdiff_t>(end), items.end());
        if (fails(put(fewer))) {
          items = std::move(fewer);
          dropped = true;
        }
        end = start;
      }
      if (piece == 1 && !dropped) {
        break;
      }
      piece = std::max<std::size_t>(piece / 2, 1);
    }
    return items;
  }

 private:
  std::string kind_;
  const RunSettings& settings_;
  Clock::time_point end_;
};

using EntryPlace = std::pair<std::size_t, std::string>;

std::vector<EntryPlace> removable_entries(const Episode& episode) {
  std::vector<EntryPlace> out;
  for (std::size_t i = 0; i < episode.layers.size(); ++i) {
    for (const auto& [path, entry] : episode.layers[i]) {
      if (path != ".") {
        out.emplace_back(i, path);
      }
    }
  }
  return out;
}

// Keeps the entries of `places`, and the parents and link targets they need.
Episode with_entries(const Episode& episode, const std::vector<EntryPlace>& places) {
  Episode out = episode;
  for (LayerSpec& layer : out.layers) {
    layer = {{".", layer.at(".")}};
  }
  for (const auto& [index, path] : places) {
    const LayerSpec& from = episode.layers[index];
    LayerSpec& to = out.layers[index];
    const auto keep = [&](std::string name) {
      for (; name != "."; name = parent_of(name)) {
        to.insert({name, from.at(name)});
      }
    };
    keep(path);
    if (const std::string& target = from.at(path).link_of; !target.empty()) {
      keep(target);
    }
  }
  return out;
}

}  // namespace

SupervisedRun run_supervised(const Episode& episode, const RunSettings& settings,
                             int quiet_seconds) {
  clear(settings.dir);
  const pid_t child = ::fork();
  if (child == 0) {
    run_child(episode, settings);
    ::_exit(0);
  }
  const bool ended = wait_for(child, settings.dir + "/ops.log", quiet_seconds);
  if (!ended) {
    break_mount(settings, child);
    int status = 0;
    ::waitpid(child, &status, 0);
  }
  SupervisedRun run;
  run.ops = logged_ops(settings.dir);
  const auto steps = static_cast<std::int64_t>(run.ops.size());
  const std::string last = run.ops.empty() ? "the set-up" : to_text(run.ops.back());
  const std::optional<Record> result = parse_record(read_text(settings.dir + "/result"));
  if (!ended) {
    run.failure = Failure{{"hang", "no answer to " + last}, steps};
  } else if (!result) {
    run.failure = Failure{{"harness", "the test process itself ended during " + last}, steps};
    break_mount(settings, child);
  } else if (result->word == "failure") {
    run.failure = Failure{{result->text("kind"), result->text("detail")}, result->number("step")};
  }
  const std::string log = read_text(settings.dir + "/daemon.log");
  if (run.failure && !log.empty()) {
    run.failure->difference.detail += "\n--- end of the daemon's log ---\n" +
                                      log.substr(log.size() > 6000 ? log.size() - 6000 : 0);
  }
  clear(settings.dir);
  return run;
}

Episode shrink(const Episode& episode, const Failure& failure, const RunSettings& settings,
               int seconds) {
  Shrinker shrinker(failure, settings, seconds);
  Episode small = episode;
  // An episode without operations would generate some.
  small.ops.push_back(Op{OpKind::Compare, 0, 0022, "", "", {}});
  if (!shrinker.fails(small)) {
    return episode;
  }
  const auto shrink_ops = [&] {
    small.ops = shrinker.minimise(small.ops, [&](const std::vector<Op>& ops) {
      Episode candidate = small;
      candidate.ops = ops;
      candidate.ops.push_back(Op{OpKind::Compare, 0, 0022, "", "", {}});
      return candidate;
    });
    small.ops.push_back(Op{OpKind::Compare, 0, 0022, "", "", {}});
  };
  shrink_ops();
  for (std::size_t i = small.layers.size(); i-- > 0 && small.layers.size() > 1;) {
    Episode candidate = small;
    candidate.layers.erase(candidate.layers.begin() + static_cast<std::ptrdiff_t>(i));
    candidate.init = small.init && i != 0;
    if (shrinker.fails(candidate)) {
      small = candidate;
    }
  }
  const std::vector<EntryPlace> places = shrinker.minimise(
      removable_entries(small),
      [&](const std::vector<EntryPlace>& kept) { return with_entries(small, kept); });
  small = with_entries(small, places);
  shrink_ops();
  return small;
}

}  // namespace layerfs::model
