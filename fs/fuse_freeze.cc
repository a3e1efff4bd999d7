#include "fs/fuse_freeze.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "fs/fuse_session.h"

namespace layerfs {
namespace {

using std::chrono::steady_clock;

// A request that is being served may copy a large file up.
constexpr std::chrono::seconds kPatience{10};
constexpr std::chrono::milliseconds kPause{1};
constexpr unsigned kMostTries = 20;

}  // namespace

Result<Freezer::Begun, Failure> Freezer::begin() {
  FreezeGate& gate = context_.gate;
  tries_ = 0;
  if (context_.settings.io == IoMode::Cached) {
    gate.settle();
    writes_ = gate.writes();
    return Begun{true, {}};
  }
  if (const auto closed = gate.close(steady_clock::now() + kPatience); !closed) {
    return Failure{"a change that is under way does not end; try again later"};
  }
  Begun begun;
  held_.clear();
  for (const NodeId node : context_.open_modes.passthrough_writers()) {
    if (auto path = context_.fs.path_in_upper(node)) {
      held_.push_back(node);
      begun.hold.push_back(std::move(*path));
    }
  }
  return begun;
}

Result<bool, Failure> Freezer::close() {
  return context_.settings.io == IoMode::Cached ? close_gathered() : close_held();
}

Result<bool, Failure> Freezer::close_gathered() {
  FreezeGate& gate = context_.gate;
  if (const auto closed = gate.close(steady_clock::now() + kPatience); !closed) {
    return Failure{"a change that is under way does not end; try again later"};
  }
  // A whole writing back that wrote nothing: all was clean when it began.
  if (gate.writes() == writes_) {
    return true;
  }
  if (++tries_ == kMostTries) {
    return Failure{
        "it is written to without a pause, through memory mappings; stop who writes, or wait"};
  }
  serve_kept(context_, gate.settle());
  if (tries_ == 1) {
    forget_attributes();
  }
  writes_ = gate.writes();
  return false;
}

// A write to a cached file asks for attributes that the kernel does not have.
void Freezer::forget_attributes() {
  for (const NodeId node : context_.fs.regular_nodes()) {
    fuse_lowlevel_notify_inval_inode(context_.session, node, -1, 0);
  }
}

Result<bool, Failure> Freezer::close_held() {
  const auto deadline = steady_clock::now() + kPatience;
  for (;;) {
    const std::set<NodeId> locked = context_.gate.locked();
    const std::vector<NodeId> writers = context_.open_modes.passthrough_writers();
    const auto free = std::find_if(held_.begin(), held_.end(), [&](NodeId node) {
      return !locked.contains(node) &&
             std::find(writers.begin(), writers.end(), node) != writers.end();
    });
    if (free == held_.end()) {
      return true;
    }
    if (steady_clock::now() > deadline) {
      return Failure{"'/" + context_.fs.path_in_upper(*free).value_or("") +
                     "' is written to and cannot be held; stop who writes to it"};
    }
    std::this_thread::sleep_for(kPause);
  }
}

void Freezer::thaw() { serve_kept(context_, context_.gate.open()); }

}  // namespace layerfs
