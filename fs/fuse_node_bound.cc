#include "fs/fuse_node_bound.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>
#include <vector>

namespace layerfs {
namespace {

// Linux 6.18, include/uapi/linux/fuse.h; that of Debian 12 lacks them.
constexpr std::int32_t kNotifyPrune = 9;
struct PruneOut {
  std::uint32_t count;
  std::uint32_t padding;
  std::uint64_t spare;
};
constexpr std::size_t kNodesOfOneMessage = 512;

// What one takes, with its name.
constexpr std::uint64_t kNodeBytes = 192;
// Of the limit, nodes get a quarter.
constexpr std::uint64_t kShare = 4;

std::optional<std::uint64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> memory_limit(const std::string& line, const std::string& root) {
  // NUMBER:CONTROLLERS:PATH (cgroups(7)); without controllers it is of version 2.
  const std::size_t first = line.find(':');
  const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
  if (second == std::string::npos) {
    return std::nullopt;
  }
  const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
  const bool unified = controllers == ",,";
  if (!unified && controllers.find(",memory,") == std::string::npos) {
    return std::nullopt;
  }
  const std::string top = unified ? root : root + "/memory";
  const std::string file = unified ? "/memory.max" : "/memory.limit_in_bytes";
  std::optional<std::uint64_t> least;
  for (std::string group = line.substr(second + 1);; group.resize(group.rfind('/'))) {
    const auto limit = number_in(top + group + file);
    if (limit && *limit < least.value_or(UINT64_MAX)) {
      least = limit;
    }
    if (group.find('/') == std::string::npos) {
      return least;
    }
  }
}

std::optional<std::uint64_t> own_memory_limit() {
  std::ifstream groups("/proc/self/cgroup");
  std::optional<std::uint64_t> least;
  for (std::string line; std::getline(groups, line);) {
    const auto limit = memory_limit(line, "/sys/fs/cgroup");
    if (limit && *limit < least.value_or(UINT64_MAX)) {
      least = limit;
    }
  }
  return least;
}

NodeBound::NodeBound(FileSystem& fs, int device,
                     std::function<std::optional<std::uint64_t>()> limit)
    : fs_(fs), device_(device), limit_(std::move(limit)) {
  fs_.on_node_growth([this] { return on_growth(); });
}

bool NodeBound::on_growth() {
  const std::lock_guard lock(mutex_);
  if (is_over_) {
    return false;
  }
  has_grown_ = true;
  if (thread_.joinable()) {
    changed_.notify_one();
    return true;
  }
  // Few mounts grow so far.
  try {
    thread_ = std::thread([this] { work(); });
  } catch (const std::system_error&) {
    // No thread now; there is another try when the table has grown again.
  }
  return true;
}

NodeBound::~NodeBound() {
  fs_.on_node_growth(nullptr);
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

void NodeBound::work() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return has_grown_ || is_over_; });
      if (is_over_) {
        return;
      }
      has_grown_ = false;
    }
    if (!shrink()) {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
      return;
    }
  }
}

bool NodeBound::shrink() {
  const auto limit = limit_();
  const std::uint64_t most = limit ? *limit / kShare / kNodeBytes : UINT64_MAX;
  if (fs_.node_usage().nodes <= most) {
    return true;
  }
  const std::uint64_t enough = most / 4 * 3;
  const std::vector<NodeId> nodes = fs_.known_nodes();
  for (std::size_t at = 0; at < nodes.size() && fs_.node_usage().nodes > enough;
       at += kNodesOfOneMessage) {
    const auto asked = ask_to_forget(&nodes[at], std::min(kNodesOfOneMessage, nodes.size() - at));
    if (!asked) {
      return asked.error().value() != EINVAL;  // fuse_notify() of an older Linux
    }
  }
  return true;
}

// The kernel drops the names that it has cached and that are in no use, and sends FORGET.
Status NodeBound::ask_to_forget(const NodeId* nodes, std::size_t count) {
  PruneOut out{};
  out.count = static_cast<std::uint32_t>(count);
  fuse_out_header header{};
  header.error = kNotifyPrune;
  header.len = static_cast<std::uint32_t>(sizeof header + sizeof out + count * sizeof *nodes);
  std::string message(header.len, '\0');
  std::memcpy(message.data(), &header, sizeof header);
  std::memcpy(message.data() + sizeof header, &out, sizeof out);
  std::memcpy(message.data() + sizeof header + sizeof out, nodes, count * sizeof *nodes);
  return ::write(device_, message.data(), message.size()) >= 0 ? Status() : Errno(errno);
}

}  // namespace layerfs
