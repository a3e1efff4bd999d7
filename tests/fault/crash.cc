// The daemon is killed before each of the calls by which an operation changes a layer, and
// after the last one. Killing it after the n-th call instead of before the next leaves the
// same layers: what is between the two is in its memory.
#include "tests/fault/bench.h"

#include <algorithm>
#include <stdexcept>

namespace layerfs::fault {
namespace {

using namespace std::chrono_literals;

constexpr auto kHang = 20s;

void append(std::vector<std::string>& lines, const std::string& when,
            const std::vector<std::string>& more) {
  for (const std::string& line : more) {
    lines.push_back(when + line);
  }
}

class Crash {
 public:
  Crash(Bench& bench, const Operation& operation, const Known& known, bool oci)
      : bench_(bench), operation_(operation), known_(known), oci_(oci) {}

  // Whether there was an n-th call.
  bool run(std::size_t n) {
    lines_.clear();
    bench_.prepare(operation_);
    const bool fired = crash(n);
    const Tree first = remount("after the crash: ");
    append(lines_, "after the crash: ", compare(allowed_, first, match()));
    finish(first);
    std::vector<std::string> findings = bench_.stack().findings(operation_.has(Trait::Init));
    std::erase_if(findings, [this](const std::string& line) {
      return operation_.may_leave(line) ||
             (oci_ && line.find("idle-whiteout") != std::string::npos);
    });
    append(lines_, "layerfs check: ", findings);
    return fired;
  }

  const std::vector<std::string>& lines() const { return lines_; }
  const std::string& call() const { return call_; }

 private:
  bool crash(std::size_t n) {
    const auto mounted = bench_.mount(operation_, Watch::Traced);
    World world(bench_.stack().root());
    const Watchdog watchdog(mounted->pid(), kHang);
    mounted->tracer().arm({Plan::Action::Kill, n, true, 0});
    const Progress progress = Bench::run(operation_, world);
    world.drop();
    const Shot shot = mounted->tracer().disarm();
    mounted->kill();
    if (watchdog.barked()) {
      lines_.emplace_back("the daemon did not answer");
    }
    if (progress.error != 0 && !shot.fired) {
      lines_.push_back("failed without a crash: errno " + std::to_string(progress.error));
    }
    call_ = shot.fired ? "before " + shot.call : "at the end";
    allowed_ = {known_.states[progress.done]};
    if (progress.error != 0) {
      allowed_.push_back(known_.states[progress.done + 1]);
    }
    return shot.fired;
  }

  Tree remount(const std::string& when) {
    const auto mounted = bench_.mount(operation_, Watch::Free);
    const Tree tree = bench_.look(*mounted);
    append(lines_, when + "in the work directory: ", bench_.stack().leftovers());
    if (const std::string end = mounted->unmount(); !end.empty()) {
      lines_.push_back(when + end);
    }
    return tree;
  }

  // The second mount shows what the first did, and there the operation can be done anew.
  void finish(const Tree& first) {
    const auto mounted = bench_.mount(operation_, Watch::Free);
    const Tree second = bench_.look(*mounted);
    append(lines_, "at the second mount: ", compare({first}, second, Match::Whole));
    for (const auto& [path, object] : second.objects) {
      const auto before = first.objects.find(path);
      if (before != first.objects.end() && before->second.ino != object.ino) {
        lines_.push_back("at the second mount: another inode number of " + path);
      }
    }
    if (compare({known_.states.front()}, second, Match::LinksHigh).empty()) {
      World world(bench_.stack().root());
      const Progress again = Bench::run(operation_, world);
      world.drop();
      if (again.error != 0) {
        lines_.push_back("done anew: errno " + std::to_string(again.error));
      }
      append(lines_,
             "done anew: ", compare({known_.states.back()}, bench_.look(*mounted), match()));
    }
    if (const std::string end = mounted->unmount(); !end.empty()) {
      lines_.push_back("at the second mount: " + end);
    }
    append(lines_, "after the second mount, in the work directory: ", bench_.stack().leftovers());
  }

  Match match() const {
    return operation_.has(Trait::BothNames)   ? Match::EachName
           : operation_.has(Trait::HighCount) ? Match::LinksHigh
                                              : Match::Whole;
  }
  Bench& bench_;
  const Operation& operation_;
  const Known& known_;
  // A whiteout stands beside what it replaces or will replace for a moment.
  const bool oci_;
  std::vector<Tree> allowed_;
  std::vector<std::string> lines_;
  std::string call_;
};

}  // namespace

int crash_everywhere(const std::string& base, const Variant& variant, const Selection& selection) {
  Report report("crash, " + variant.name);
  if (variant.name == "volatile") {
    report.passed();  // promises nothing, and the next mount is refused
    return report.finish();
  }
  Bench bench(base, variant);
  std::size_t counted = 0;
  bench.each(selection, report, [&](const Operation& operation, const Known& known) {
    Crash crash(bench, operation, known, variant.name == "oci");
    // Up to one more than there are calls: the crash after all.
    bool fired = true;
    for (std::size_t n = selection.at.value_or(1); fired && n <= selection.at.value_or(n); ++n) {
      if (counted++ % selection.every != 0) {
        fired = n <= known.changes;
        continue;
      }
      fired = crash.run(n);
      if (crash.lines().empty()) {
        report.passed();
        continue;
      }
      const std::string at = std::to_string(n);
      report.failed(variant.name + ": " + operation.name + ", " + at + ": " + crash.call(),
                    crash.lines(),
                    "fault-test crash --variant " + variant.name + " --only '" + operation.name +
                        "' --at " + at);
    }
  });
  return report.finish();
}

}  // namespace layerfs::fault
