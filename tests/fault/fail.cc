// Each of the daemon's calls that change or read a layer fails once, with each error that it
// can give.
#include "tests/fault/bench.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace layerfs::fault {
namespace {

using namespace std::chrono_literals;

constexpr auto kHang = 20s;

std::string name_of(int error) { return error == 0 ? "success" : ::strerrorname_np(error); }

void append(std::vector<std::string>& lines, const std::string& when,
            const std::vector<std::string>& more) {
  for (const std::string& line : more) {
    lines.push_back(when + line);
  }
}

class Failing {
 public:
  // After a failure the operation is tried again, in the same mount or in the next.
  enum class Again { Here, Remounted };

  Failing(Bench& bench, const Operation& operation, const Known& known)
      : bench_(bench), operation_(operation), known_(known) {}

  void run(std::size_t n, int error, Again again) {
    lines_.clear();
    loose_.clear();
    bench_.prepare(operation_);
    const Tree last = meet(n, error, again);
    remount(last);
    std::vector<std::string> findings = bench_.stack().findings(operation_.has(Trait::Init));
    std::erase_if(findings, [this](const std::string& line) { return operation_.may_leave(line); });
    append(lines_, "layerfs check: ", findings);
  }

  const std::vector<std::string>& lines() const { return lines_; }
  const std::string& call() const { return call_; }

 private:
  // Returns what the mount showed last.
  Tree meet(std::size_t n, int error, Again again) {
    const auto mounted = bench_.mount(operation_, Watch::Traced);
    World world(bench_.stack().root());
    const Watchdog watchdog(mounted->pid(), kHang);
    mounted->tracer().arm({Plan::Action::Fail, n, false, error});
    Progress progress = Bench::run(operation_, world);
    const Shot shot = mounted->tracer().disarm();
    call_ = shot.fired ? name_of(error) + " of " + shot.call : "nothing failed";
    Tree seen = bench_.look(*mounted);
    const std::string when = progress.error == 0 ? "done: " : "after the error: ";
    std::vector<Tree> allowed = {known_.states[progress.done]};
    const bool undone = compare(allowed, seen, Match::Whole).empty();
    if (progress.error != 0 && !undone) {
      // It came after the change was made.
      allowed.push_back(known_.states[progress.done + 1]);
    }
    if (progress.error != 0 && !(shot.fired && is_told(error, progress.error, undone))) {
      lines_.push_back("the error is " + name_of(progress.error));
    }
    const bool keeps_link =
        shot.call.starts_with("unlinkat") && shot.call.find("/work/#") != std::string::npos;
    if (progress.error != 0 && operation_.has(Trait::Data)) {
      loose_ = {known_.states[progress.done], known_.states[progress.done + 1]};
    } else if (keeps_link) {
      // Of a deleted file, or of one that had no name: until the work directory is swept.
      append(lines_, when, compare(allowed, seen, Match::LinksHigh));
      loose_ = allowed;
    } else {
      append(lines_, when, compare(allowed, seen, Match::Whole));
    }
    if (loose_.empty() && progress.error != 0 && undone && again == Again::Here) {
      progress = Bench::run(operation_, world, progress.done);
      seen = bench_.look(*mounted);
      if (progress.error != 0) {
        lines_.push_back("again: " + name_of(progress.error));
      }
      append(lines_, "again: ", compare({known_.states.back()}, seen, Match::Whole));
    }
    world.drop();
    if (watchdog.barked()) {
      lines_.emplace_back("the daemon did not answer");
    }
    const auto end = mounted->ended();
    if (end) {
      lines_.emplace_back("the daemon ended");
      mounted->kill();
    } else if (const std::string problem = mounted->unmount(); !problem.empty()) {
      lines_.push_back(problem);
    }
    return seen;
  }

  // Whether `seen` is what a caller may get to see of `error`.
  bool is_told(int error, int seen, bool undone) const {
    // Of a change that is made the kernel tries ESTALE again, which finds it made.
    const bool tried_again = error == ESTALE && !undone;
    // Errors of writing pages out become EIO (include/linux/pagemap.h: mapping_set_error).
    return seen == error || tried_again || (operation_.has(Trait::WritesBack) && seen == EIO);
  }

  void remount(const Tree& last) {
    const auto mounted = bench_.mount(operation_, Watch::Free);
    const Tree tree = bench_.look(*mounted);
    append(lines_,
           "remounted: ", compare(loose_.empty() ? std::vector{last} : loose_, tree, Match::Whole));
    if (!lines_.empty()) {
      return;  // more would only repeat it
    }
    if (compare({known_.states.front()}, tree, Match::Whole).empty()) {
      World world(bench_.stack().root());
      const Progress progress = Bench::run(operation_, world);
      world.drop();
      if (progress.error != 0) {
        lines_.push_back("remounted, again: " + name_of(progress.error));
      }
      append(lines_, "remounted, again: ",
             compare({known_.states.back()}, bench_.look(*mounted), Match::Whole));
    }
    if (const std::string problem = mounted->unmount(); !problem.empty()) {
      lines_.push_back("remounted: " + problem);
    }
    append(lines_, "in the work directory: ", bench_.stack().leftovers());
  }

  Bench& bench_;
  const Operation& operation_;
  const Known& known_;
  std::vector<std::string> lines_;
  std::string call_;
  // The trees of which the next mount may show any; empty: the one that the last showed.
  std::vector<Tree> loose_;
};

}  // namespace

int fail_everywhere(const std::string& base, const Variant& variant, const Selection& selection) {
  Report report("errors, " + variant.name);
  Bench bench(base, variant);
  std::size_t counted = 0;
  bench.each(selection, report, [&](const Operation& operation, const Known& known) {
    Failing failing(bench, operation, known);
    const auto try_one = [&](std::size_t n, int error, Failing::Again again) {
      failing.run(n, error, again);
      if (failing.lines().empty()) {
        report.passed();
        return;
      }
      const std::string at = std::to_string(n);
      report.failed(variant.name + ": " + operation.name + ", " + at + ": " + failing.call(),
                    failing.lines(),
                    "fault-test errors --variant " + variant.name + " --only '" + operation.name +
                        "' --at " + at + " --error " + name_of(error));
    };
    for (std::size_t n = 1; n <= known.calls.size(); ++n) {
      for (const int error : errors_of(known.calls[n - 1])) {
        for (const Failing::Again again : {Failing::Again::Here, Failing::Again::Remounted}) {
          const bool wanted = n == selection.at.value_or(n) &&
                              (selection.error == 0 || selection.error == error) &&
                              counted++ % selection.every == 0;
          if (wanted) {
            try_one(n, error, again);
          }
        }
      }
    }
  });
  return report.finish();
}

}  // namespace layerfs::fault
