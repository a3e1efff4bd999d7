#include "tools/run/seccomp_profile.h"

#include <sys/utsname.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>

#include "tools/run/capabilities.h"

namespace layerfs::run {
namespace {

using nlohmann::json;

Problem bad(const std::string& what) {
  return failed("the system call profile is not usable: " + what);
}

Outcome<std::uint32_t> action_of(const json& object, const char* key, const char* errno_key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) {
    return bad(std::string("it lacks \"") + key + "\"");
  }
  std::uint32_t error = EPERM;
  if (const auto ret = object.find(errno_key); ret != object.end() && ret->is_number_unsigned()) {
    error = ret->get<std::uint32_t>();
  }
  const auto name = found->get<std::string>();
  if (name == "SCMP_ACT_ALLOW") {
    return std::uint32_t{SCMP_ACT_ALLOW};
  }
  if (name == "SCMP_ACT_ERRNO") {
    return static_cast<std::uint32_t>(SCMP_ACT_ERRNO(error));
  }
  if (name == "SCMP_ACT_KILL" || name == "SCMP_ACT_KILL_THREAD") {
    return static_cast<std::uint32_t>(SCMP_ACT_KILL_THREAD);
  }
  if (name == "SCMP_ACT_KILL_PROCESS") {
    return std::uint32_t{SCMP_ACT_KILL_PROCESS};
  }
  if (name == "SCMP_ACT_TRAP") {
    return std::uint32_t{SCMP_ACT_TRAP};
  }
  if (name == "SCMP_ACT_LOG") {
    return std::uint32_t{SCMP_ACT_LOG};
  }
  return bad("the action " + name + " is not supported");
}

Outcome<scmp_compare> compare_of(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, scmp_compare>, 7> kNames = {{
      {"SCMP_CMP_NE", SCMP_CMP_NE},
      {"SCMP_CMP_LT", SCMP_CMP_LT},
      {"SCMP_CMP_LE", SCMP_CMP_LE},
      {"SCMP_CMP_EQ", SCMP_CMP_EQ},
      {"SCMP_CMP_GE", SCMP_CMP_GE},
      {"SCMP_CMP_GT", SCMP_CMP_GT},
      {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
  }};
  for (const auto& [text, value] : kNames) {
    if (text == name) {
      return value;
    }
  }
  return bad("the comparison " + name + " is not known");
}

std::string machine_name() {
  struct utsname names {};
  ::uname(&names);
  const std::string machine = names.machine;
  return machine == "x86_64" ? "amd64" : machine == "aarch64" ? "arm64" : machine;
}

bool kernel_is_at_least(const std::string& wanted) {
  struct utsname names {};
  ::uname(&names);
  int have[2] = {};
  int want[2] = {};
  return std::sscanf(names.release, "%d.%d", &have[0], &have[1]) == 2 &&
         std::sscanf(wanted.c_str(), "%d.%d", &want[0], &want[1]) == 2 &&
         std::pair(have[0], have[1]) >= std::pair(want[0], want[1]);
}

// Whether the condition block names something that holds here.
Outcome<bool> holds(const json& block, std::uint64_t capabilities, bool all) {
  bool any_true = false;
  bool all_true = true;
  for (const auto& [key, value] : block.items()) {
    bool here = false;
    if (key == "caps") {
      here = all;
      for (const json& name : value) {
        LFS_ASSIGN(const std::uint64_t bit, parse_capability(name.get<std::string>()));
        const bool has = (capabilities & bit) != 0;
        here = all ? here && has : here || has;
      }
    } else if (key == "arches") {
      for (const json& name : value) {
        here = here || name.get<std::string>() == machine_name();
      }
    } else if (key == "minKernel") {
      here = kernel_is_at_least(value.get<std::string>());
    } else {
      return bad("the condition \"" + key + "\" is not known");
    }
    any_true = any_true || here;
    all_true = all_true && here;
  }
  return all ? all_true : any_true;
}

Outcome<bool> applies(const json& rule, std::uint64_t capabilities) {
  if (const auto block = rule.find("includes"); block != rule.end() && block->is_object()) {
    LFS_ASSIGN(const bool here, holds(*block, capabilities, /*all=*/true));
    if (!here) {
      return false;
    }
  }
  if (const auto block = rule.find("excludes"); block != rule.end() && block->is_object()) {
    LFS_ASSIGN(const bool here, holds(*block, capabilities, /*all=*/false));
    return !here;
  }
  return true;
}

Outcome<SeccompRule> rule_of(const json& object) {
  SeccompRule out;
  LFS_ASSIGN(out.action, action_of(object, "action", "errnoRet"));
  if (const auto names = object.find("names"); names != object.end()) {
    out.names = names->get<std::vector<std::string>>();
  } else {
    out.names = {object.at("name").get<std::string>()};
  }
  if (const auto args = object.find("args"); args != object.end() && args->is_array()) {
    for (const json& arg : *args) {
      LFS_ASSIGN(const scmp_compare how, compare_of(arg.at("op").get<std::string>()));
      out.conditions.push_back({arg.at("index").get<unsigned>(), how,
                                arg.value("value", std::uint64_t{0}),
                                arg.value("valueTwo", std::uint64_t{0})});
    }
  }
  return out;
}

Outcome<SeccompProfile> profile_of(const json& document, std::uint64_t capabilities) {
  SeccompProfile out;
  LFS_ASSIGN(out.default_action, action_of(document, "defaultAction", "defaultErrnoRet"));
  for (const json& object : document.at("syscalls")) {
    LFS_ASSIGN(const bool here, applies(object, capabilities));
    if (here) {
      LFS_ASSIGN(SeccompRule rule, rule_of(object));
      out.rules.push_back(std::move(rule));
    }
  }
  return out;
}

}  // namespace

Outcome<SeccompProfile> parse_seccomp_profile(std::string_view text, std::uint64_t capabilities) {
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) {
    return bad("it is not a JSON object");
  }
  try {
    return profile_of(document, capabilities);
  } catch (const json::exception& error) {
    return bad(error.what());
  }
}

}  // namespace layerfs::run
