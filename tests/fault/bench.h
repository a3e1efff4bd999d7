// Runs operations on a stack: cleanly, to know what is right, or with something going wrong.
#pragma once

#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/fault/operations.h"
#include "tests/fault/stack.h"

namespace layerfs::fault {

// What a run may leave: the tree before the operation and after each of its steps.
struct Known {
  std::vector<Tree> states;
  std::size_t changes = 0;  // calls that change a layer
  std::vector<Kind> calls;  // all calls
};

// How far the steps came.
struct Progress {
  std::size_t done = 0;
  int error = 0;  // of the step that failed; 0: none did
};

// Objects of one kind that a run counts, with what went wrong.
class Report {
 public:
  explicit Report(std::string title) : title_(std::move(title)) {}
  void passed() { ++cases_; }
  // `where` identifies the case; `again` is the command that repeats it.
  void failed(const std::string& where, const std::vector<std::string>& lines,
              const std::string& again);
  // 0 if all passed.
  int finish() const;

 private:
  std::string title_;
  std::size_t cases_ = 0;
  std::size_t failures_ = 0;
};

struct Selection {
  std::string variant;  // "": the caller's choice
  std::string only;     // operations whose names contain it
  std::optional<std::size_t> at;
  int error = 0;
  std::size_t every = 1;  // of the cases, one in so many
  std::size_t part = 0;   // of `parts`: the operations of this process
  std::size_t parts = 1;
  bool wants(const Operation& operation, std::size_t number) const {
    return number % parts == part && operation.name.find(only) != std::string::npos;
  }
};

class Bench {
 public:
  Bench(const std::string& base, const Variant& variant)
      : stack_(base, variant), variant_(variant.name) {}

  Stack& stack() { return stack_; }
  // Throws std::runtime_error if the operation does not work at all.
  Known learn(const Operation& operation);
  // Calls `tries` for each operation that is wanted; what it throws is a failure, and so is
  // a lower that has changed at the end.
  void each(const Selection& selection, Report& report,
            const std::function<void(const Operation&, const Known&)>& tries);
  // A fresh stack with what the operation needs; nothing is mounted.
  void prepare(const Operation& operation);
  std::unique_ptr<Mount> mount(const Operation& operation, Watch watch);
  // Steps from `done` on.
  static Progress run(const Operation& operation, World& world, std::size_t done = 0);
  // What the mount shows; an error of the scan, and a daemon that does not answer, are in it.
  Tree look(Mount& mount);

 private:
  Stack stack_;
  std::string variant_;
};

// All return the exit code.
int crash_everywhere(const std::string& base, const Variant& variant, const Selection& selection);
int fail_everywhere(const std::string& base, const Variant& variant, const Selection& selection);
int kill_at_random(const std::string& base, const Variant& variant, std::size_t rounds,
                   std::uint64_t seed);

// Kinds of file systems for the upper of lose_power().
const std::vector<std::string>& disk_kinds();
// Why there can be no upper on `kind` here; "" if there can.
std::string lacks(const std::string& kind);
struct Outage {
  std::string kind;
  std::size_t cuts = 0;
  std::size_t steps = 0;  // of each worker
  std::uint64_t seed = 0;
};
int lose_power(const std::string& base, const Variant& variant, const Outage& outage);

}  // namespace layerfs::fault
