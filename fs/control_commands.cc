#include "fs/control_commands.h"

#include <dirent.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "fs/privileges.h"
#include "layers/path_text.h"

namespace layerfs {
namespace {

using nlohmann::json;

json requests_of(const Statistics& statistics) {
  json requests = json::object();
  for (std::size_t i = 0; i < static_cast<std::size_t>(Op::Count); ++i) {
    const auto op = static_cast<Op>(i);
    const Statistics::Kind& kind = statistics.of(op);
    const std::uint64_t count = kind.count.load(std::memory_order_relaxed);
    if (count == 0) {
      continue;
    }
    json histogram = json::array();
    for (std::size_t bucket = 0; bucket < Statistics::kBuckets; ++bucket) {
      const std::uint64_t n = kind.histogram[bucket].load(std::memory_order_relaxed);
      if (n != 0) {
        histogram.push_back({std::uint64_t{1} << bucket, n});
      }
    }
    requests[op_name(op)] = {
        {"count", count},
        {"errors", kind.errors.load(std::memory_order_relaxed)},
        {"total_us", static_cast<double>(kind.nanoseconds.load(std::memory_order_relaxed)) / 1000},
        {"histogram_us", histogram}};
  }
  return requests;
}

const char* name_of(XattrNamespace ns) {
  switch (ns) {
    case XattrNamespace::Trusted:
      return "trusted";
    case XattrNamespace::User:
      return "user";
    case XattrNamespace::None:
      break;
  }
  return "none";
}

json stats(const ControlState& state) {
  const FileSystem& fs = state.context.fs;
  const FuseContext& context = state.context;
  json lowers = json::array();
  for (const std::string& lower : state.config.lowers) {
    lowers.push_back(bytes_to_json(lower));
  }
  const auto nodes = fs.node_usage();
  const auto listings = fs.listing_usage();
  const CopyUpCounters& copied = fs.copied_up();
  const Privileges held = privileges();
  const std::chrono::duration<double> uptime = std::chrono::steady_clock::now() - state.started;
  return {{"version", LAYERFS_VERSION},
          {"pid", ::getpid()},
          {"mountpoint", bytes_to_json(state.layers.mountpoint)},
          {"lowers", lowers},
          {"upper", bytes_to_json(state.config.upper)},
          {"work", bytes_to_json(state.layers.work)},
          {"init", bytes_to_json(state.config.init)},
          {"io", context.settings.io == IoMode::Passthrough ? "passthrough" : "cached"},
          {"transport", "/dev/fuse"},
          {"libfuse", fuse_pkgversion()},
          {"kernel_proto",
           std::to_string(context.proto_major) + "." + std::to_string(context.proto_minor)},
          {"whiteout", state.layers.form == WhiteoutForm::Overlay ? "overlay" : "oci"},
          {"xattr", name_of(state.layers.xattrs)},
          {"override_stat", state.layers.overrides},
          {"threads", state.threads},
          {"capabilities", held.capabilities},
          {"no_new_privs", held.no_new_privileges},
          {"uptime_s", uptime.count()},
          {"requests", requests_of(context.statistics)},
          {"caches",
           {{"nodes", nodes.nodes},
            {"node_bytes", nodes.bytes},
            {"listings", listings.listings},
            {"listing_entries", listings.entries},
            {"fds", fs.descriptors().size()},
            {"fd_limit", fs.descriptors().limit()}}},
          {"copied_up",
           {{"files", copied.files.load()},
            {"metadata_only", copied.metadata_only.load()},
            {"bytes", copied.bytes.load()}}}};
}

json error(Errno errno_value, const std::string& message) {
  return {{"error", strerrorname_np(errno_value.value())}, {"message", message}};
}

json which(const ControlState& state, const std::string& path) {
  std::vector<std::string> components;
  std::size_t start = 0;
  while (start < path.size()) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    if (end > start) {
      components.push_back(path.substr(start, end - start));
    }
    start = end + 1;
  }
  const auto found = state.context.fs.providers(components);
  if (!found) {
    return error(found.error(), describe(found.error()));
  }
  json below = json::array();
  for (std::size_t i = 1; i < found->size(); ++i) {
    below.push_back({{"layer", (*found)[i].layer},
                     {"path", bytes_to_json((*found)[i].path)},
                     {"kind", (*found)[i].kind}});
  }
  json answer = {{"path", bytes_to_json(path)}, {"below", below}};
  if (!found->empty()) {
    answer["type"] = found->front().kind;
    answer["provider"] = {{"layer", found->front().layer},
                          {"path", bytes_to_json(found->front().path)}};
  }
  return answer;
}

}  // namespace

std::string run_control_command(const ControlState& state, const std::string& request) {
  const json parsed = json::parse(request, nullptr, false);
  const std::string command = parsed.is_object() ? parsed.value("cmd", "") : "";
  json answer;
  if (command == "stats") {
    answer = stats(state);
  } else if (command == "pid") {
    answer = {{"pid", ::getpid()}};
  } else if (command == "sync") {
    const auto synced = state.context.fs.sync_all();
    answer = synced ? json{{"ok", true}} : error(synced.error(), describe(synced.error()));
  } else if (command == "which" && parsed.contains("path")) {
    const auto path = bytes_from_json(parsed["path"]);
    answer = path ? which(state, *path) : error(Errno(EINVAL), "the path is no text");
  } else {
    answer = error(Errno(EINVAL), "unknown command");
  }
  return answer.dump();
}

}  // namespace layerfs
