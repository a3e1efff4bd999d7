#include "tools/run/cgroup.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <sstream>
#include <thread>

#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

constexpr auto kPatience = std::chrono::seconds(5);
constexpr auto kStep = std::chrono::milliseconds(2);
constexpr const char* kFolder = "layerfs-run";

bool has_word(std::string_view list, std::string_view word, char separator) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(separator), list.size());
    if (list.substr(0, end) == word) {
      return true;
    }
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

std::string joined(const std::string& a, const std::string& b) {
  return b == "/" ? a : a + (b.starts_with('/') ? "" : "/") + b;
}

Outcome<void> make_group(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) < 0 && errno != EEXIST) {
    return failed("cannot make the control group '" + path + "': " + describe(Errno::last()));
  }
  return {};
}

std::string trimmed(std::string text) {
  while (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  return text;
}

// A group of v1's cpuset has no processors and memory until it is given some.
Outcome<void> inherit_cpuset(const std::string& parent, const std::string& group) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    LFS_ASSIGN(const std::string text, read_text(parent + file));
    LFS_TRY(write_text(group + file, trimmed(text)));
  }
  return {};
}

bool is_writable(const std::string& group) {
  return ::access(group.c_str(), W_OK) == 0 &&
         ::access((group + "/cgroup.procs").c_str(), W_OK) == 0;
}

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

void kill_all_in(const std::string& group) {
  const auto procs = read_text_if_there(group + "/cgroup.procs");
  std::istringstream in(procs && *procs ? **procs : std::string());
  for (pid_t pid = 0; in >> pid;) {
    // 0 would be our own process group: a process of another pid namespace.
    if (pid > 0) {
      ::kill(pid, SIGKILL);
    }
  }
}

// Processes leave a group some time after their end.
bool remove_group(const std::string& path, bool kill) {
  const auto limit = std::chrono::steady_clock::now() + kPatience;
  while (::rmdir(path.c_str()) < 0 && errno != ENOENT) {
    if (errno != EBUSY || std::chrono::steady_clock::now() > limit) {
      return false;
    }
    if (kill) {
      kill_all_in(path);
    }
    std::this_thread::sleep_for(kStep);
  }
  return true;
}

Outcome<void> add(const std::string& group, pid_t pid) {
  return write_text(group + "/cgroup.procs", std::to_string(pid));
}

}  // namespace

std::map<std::string, CgroupPlace> find_cgroup_places(const std::vector<MountEntry>& mounts,
                                                      std::string_view membership) {
  std::map<std::string, CgroupPlace> out;
  std::istringstream lines{std::string(membership)};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) {
      continue;
    }
    const std::string own = line.substr(second + 1);
    std::string controllers = line.substr(first + 1, second - first - 1);
    for (const MountEntry& mount : mounts) {
      if (controllers.empty() && mount.type == "cgroup2") {
        out[""] = {CgroupVersion::V2, mount.mount_point, own};
      }
      if (controllers.empty() || mount.type != "cgroup") {
        continue;
      }
      for (std::istringstream words(controllers); std::getline(words, line, ',');) {
        if (has_word(mount.super_options, line, ',')) {
          out[line] = {CgroupVersion::V1, mount.mount_point, own};
        }
      }
    }
  }
  return out;
}

std::uint64_t value_of_key(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ') {
      std::uint64_t value = 0;
      std::from_chars(line.data() + key.size() + 1, line.data() + line.size(), value);
      return value;
    }
  }
  return 0;
}

Cgroups::~Cgroups() { ignore(remove(), "whoever needs to know has asked before"); }

Outcome<Cgroups::Group> Cgroups::make_v1(const std::string& controller, const CgroupPlace& place,
                                         const std::string& name) {
  const std::string above = joined(place.mount, place.own);
  Group group;
  group.parent = group.payload = joined(above, std::string(kFolder) + "-" + name);
  // Its I/O limits are flat: the daemon counts if it is in the same group.
  group.daemon = controller == "blkio" ? group.payload : std::string();
  LFS_TRY(make_group(group.payload));
  if (controller == "cpuset") {
    LFS_TRY(inherit_cpuset(above, group.payload));
  }
  return group;
}

Outcome<Cgroups::Group> Cgroups::make_v2(const CgroupPlace& place, const std::string& name) {
  // Only a group without processes hands controllers on: the root of the hierarchy for
  // root, else the nearest group above us that was delegated to this user.
  std::string above = "/";
  if (::geteuid() != 0 || !is_writable(place.mount)) {
    above = parent_of(place.own);
    while (above != "/" && !is_writable(joined(place.mount, above))) {
      above = parent_of(above);
    }
    if (!is_writable(joined(place.mount, above))) {
      return failed(
          "no control group is delegated to this user; run below "
          "'systemd-run --user --scope', and let "
          "/etc/systemd/system/user@.service.d/delegate.conf say "
          "[Service] Delegate=cpu cpuset io memory pids");
    }
  }
  Group group;
  group.parent = joined(joined(place.mount, above), std::string(kFolder) + "-" + name);
  group.payload = group.parent + "/payload";
  group.daemon = group.parent + "/fsd";
  group.made_parent = true;
  LFS_TRY(make_group(group.parent));
  LFS_TRY(make_group(group.payload));
  LFS_TRY(make_group(group.daemon));
  return group;
}

Outcome<Cgroups::Group*> Cgroups::group_of(const std::string& controller, const std::string& name) {
  const auto v1 = places_.find(controller);
  const std::string key = v1 != places_.end() ? controller : std::string();
  if (const auto made = groups_.find(key); made != groups_.end()) {
    return &made->second;
  }
  const auto place = places_.find(key);
  if (place == places_.end()) {
    return failed("this machine has no control group with the controller '" + controller + "'");
  }
  LFS_ASSIGN(Group group,
             key.empty() ? make_v2(place->second, name) : make_v1(controller, place->second, name));
  return &(groups_[key] = std::move(group));
}

// From the group above the parent down to the payload.
Outcome<void> Cgroups::enable(const std::string& controller) {
  const Group& group = groups_.at("");
  for (const std::string& path : {parent_of(group.parent), group.parent}) {
    LFS_ASSIGN(const std::string have, read_text(path + "/cgroup.subtree_control"));
    if (!has_word(trimmed(have), controller, ' ')) {
      if (const auto done = write_text(path + "/cgroup.subtree_control", "+" + controller); !done) {
        return failed("the controller '" + controller +
                      "' is not delegated here: " + done.error().message);
      }
    }
  }
  return {};
}

Outcome<void> Cgroups::apply(const CgroupWrite& write, const std::string& name) {
  LFS_ASSIGN(const Group* group, group_of(write.controller, name));
  if (group->made_parent) {
    LFS_TRY(enable(write.controller));
  }
  const std::string path = (write.for_both ? group->parent : group->payload) + "/" + write.file;
  if (write.may_lack && ::access(path.c_str(), F_OK) != 0) {
    return {};
  }
  return write_text(path, write.value);
}

Outcome<void> Cgroups::make(const std::string& name, const Limits& limits) {
  if (!limits.any()) {
    return {};
  }
  LFS_ASSIGN(const auto mounts, read_mount_table());
  LFS_ASSIGN(const std::string membership, read_text("/proc/self/cgroup"));
  places_ = find_cgroup_places(mounts, membership);
  const bool v1 = places_.contains("memory") || places_.contains("cpu") || places_.contains("pids");
  if (!limits.devices.empty() && !places_.contains("devices")) {
    const std::string why =
        "cannot set --device-allow: the machine has no devices controller of version 1, and "
        "programs for version 2 are not made";
    if (!limits.best_effort) {
      return failed(why + "; --cgroups best-effort shows the device without");
    }
    left_out_.push_back(why);
  }
  LFS_ASSIGN(const auto writes, writes_for(limits, v1 ? CgroupVersion::V1 : CgroupVersion::V2));
  for (const CgroupWrite& write : writes) {
    const auto done = apply(write, name);
    if (done) {
      continue;
    }
    const std::string why = "cannot set " + write.option + ": " + done.error().message;
    if (!limits.best_effort) {
      return failed(why + "; --cgroups best-effort goes on without");
    }
    left_out_.push_back(why);
  }
  count_use(name);
  return {};
}

// Also what is not limited is counted, so that it can be told.
void Cgroups::count_use(const std::string& name) {
  if (groups_.empty()) {
    return;
  }
  const bool v2 = groups_.contains("");
  for (const char* controller : {"memory", "cpuacct", "pids", "blkio"}) {
    if (places_.contains(controller)) {
      ignore(group_of(controller, name), "its use stays unknown");
    }
  }
  for (const char* controller : {"memory", "cpu", "pids", "io"}) {
    if (v2 && !places_.contains(controller)) {
      ignore(enable(controller), "its use stays unknown");
    }
  }
}

Outcome<void> Cgroups::add_payload(pid_t pid) {
  for (const auto& [controller, group] : groups_) {
    LFS_TRY(add(group.payload, pid));
  }
  return {};
}

Outcome<void> Cgroups::add_daemon(pid_t pid) {
  for (const auto& [controller, group] : groups_) {
    if (!group.daemon.empty()) {
      LFS_TRY(add(group.daemon, pid));
    }
  }
  return {};
}

std::string Cgroups::read(const char* controller, const char* file) const {
  auto found = groups_.find(controller);
  if (found == groups_.end()) {
    found = groups_.find("");
  }
  if (found == groups_.end()) {
    return {};
  }
  const auto text = read_text_if_there(found->second.payload + "/" + file);
  return text && *text ? **text : std::string();
}

CgroupReport Cgroups::report() const {
  const bool v2 = groups_.contains("");
  const auto number = [](const std::string& text) -> std::optional<std::uint64_t> {
    return text.empty() ? std::nullopt : std::optional(value_of_key("v " + text, "v"));
  };
  CgroupReport out;
  out.memory_peak = number(read("memory", v2 ? "memory.peak" : "memory.max_usage_in_bytes"));
  out.oom_kills =
      value_of_key(read("memory", v2 ? "memory.events" : "memory.oom_control"), "oom_kill");
  const std::string cpu = read("cpu", "cpu.stat");
  out.periods = value_of_key(cpu, "nr_periods");
  out.throttled = value_of_key(cpu, "nr_throttled");
  out.pids_peak = number(read("pids", "pids.peak"));
  out.pids_refused = value_of_key(read("pids", "pids.events"), "max");
  return out;
}

CgroupDirs Cgroups::payload_dirs() const {
  const auto dir = [&](const char* controller, const std::string Group::*which) {
    auto found = groups_.find(controller);
    if (found == groups_.end() && !places_.contains(controller)) {
      found = groups_.find("");
    }
    return found == groups_.end() ? std::string() : found->second.*which;
  };
  return {
      .memory = dir("memory", &Group::payload),
      .cpu = dir("cpu", &Group::payload),
      .cpuacct = dir("cpuacct", &Group::payload),
      .cpuset = dir("cpuset", &Group::payload),
      .pids = dir("pids", &Group::payload),
      // The daemon reads and writes for the container.
      .io = groups_.contains("blkio") ? dir("blkio", &Group::payload) : dir("io", &Group::parent)};
}

std::vector<std::string> Cgroups::payload() const {
  std::vector<std::string> out;
  for (const auto& [controller, group] : groups_) {
    out.push_back(group.payload);
  }
  return out;
}

Outcome<void> Cgroups::remove() {
  std::string stays;
  for (const auto& [controller, group] : groups_) {
    const bool gone = remove_group(group.payload, /*kill=*/true) &&
                      (!group.made_parent || (remove_group(group.daemon, /*kill=*/false) &&
                                              remove_group(group.parent, /*kill=*/false)));
    if (!gone) {
      stays = group.parent;
    }
  }
  groups_.clear();
  return stays.empty() ? Outcome<void>()
                       : failed("the control group '" + stays + "' could not be removed");
}

}  // namespace layerfs::run
