#include "tests/fault/bench.h"

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace layerfs::fault {
namespace {

using namespace std::chrono_literals;

constexpr auto kHang = 20s;

}  // namespace

std::unique_ptr<Mount> Bench::mount(const Operation& operation, Watch watch) {
  return std::make_unique<Mount>(stack_.config(operation.has(Trait::Init)), stack_.base(), watch);
}

Progress Bench::run(const Operation& operation, World& world, std::size_t done) {
  Progress progress{done, 0};
  while (progress.done < operation.steps.size() && progress.error == 0) {
    progress.error = -operation.steps[progress.done](world);
    progress.done += progress.error == 0 ? 1 : 0;
  }
  return progress;
}

void Bench::prepare(const Operation& operation) {
  stack_.renew();
  if (operation.prepare.empty()) {
    return;
  }
  const auto mounted = mount(operation, Watch::Free);
  World world(stack_.root());
  for (const Act& act : operation.prepare) {
    if (const int error = -act(world); error != 0) {
      throw std::runtime_error(operation.name + ": cannot be prepared: " + std::strerror(error));
    }
  }
  world.drop();
  if (const std::string end = mounted->unmount(); !end.empty()) {
    throw std::runtime_error(operation.name + ": while it is prepared: " + end);
  }
}

Tree Bench::look(Mount& mount) {
  const Watchdog watchdog(mount.pid(), kHang);
  Tree tree = look_at(stack_.root());
  if (watchdog.barked()) {
    tree.errors.emplace_back("the daemon does not answer");
  }
  return tree;
}

Known Bench::learn(const Operation& operation) {
  Known known;
  for (std::size_t steps = 0; steps <= operation.steps.size(); ++steps) {
    Operation part = operation;
    part.steps.resize(steps);
    prepare(operation);
    {
      const auto mounted = mount(operation, Watch::Traced);
      World world(stack_.root());
      mounted->tracer().arm({});
      const Progress progress = run(part, world);
      world.drop();
      const Shot shot = mounted->tracer().disarm();
      if (progress.error != 0) {
        throw std::runtime_error(operation.name + ": " + std::strerror(progress.error));
      }
      known.calls = shot.calls;
      mounted->unmount();
    }
    const auto mounted = mount(operation, Watch::Free);
    known.states.push_back(look(*mounted));
    const std::string end = mounted->unmount();
    const Tree& tree = known.states.back();
    if (!end.empty() || !tree.errors.empty()) {
      throw std::runtime_error(operation.name +
                               ": without any fault: " + (end.empty() ? tree.errors.front() : end));
    }
  }
  for (const Kind kind : known.calls) {
    known.changes += changes(kind) ? 1 : 0;
  }
  return known;
}

void Bench::each(const Selection& selection, Report& report,
                 const std::function<void(const Operation&, const Known&)>& tries) {
  std::size_t number = 0;
  for (const Operation& operation : operations()) {
    if (!selection.wants(operation, number++)) {
      continue;
    }
    try {
      tries(operation, learn(operation));
    } catch (const std::exception& error) {
      report.failed(variant_ + ": " + operation.name, {error.what()}, "");
    }
  }
  if (const auto changed = stack_.lowers_changed(); !changed.empty()) {
    report.failed(variant_ + ": a lower was written", changed, "");
  }
}

void Report::failed(const std::string& where, const std::vector<std::string>& lines,
                    const std::string& again) {
  ++cases_;
  ++failures_;
  std::printf("FAILED %s\n", where.c_str());
  for (const std::string& line : lines) {
    std::printf("    %s\n", line.c_str());
  }
  std::printf("    again: %s\n", again.c_str());
  std::fflush(stdout);
}

int Report::finish() const {
  std::printf("%s: %zu cases, %zu failed\n", title_.c_str(), cases_, failures_);
  std::fflush(stdout);
  return failures_ == 0 && cases_ > 0 ? 0 : 1;
}

}  // namespace layerfs::fault
