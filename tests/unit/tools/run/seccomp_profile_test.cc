#include "tools/run/seccomp_profile.h"

#include <catch2/catch.hpp>
#include <cerrno>

#include "tools/run/capabilities.h"

using namespace layerfs::run;

TEST_CASE("seccomp profile: docker's form is understood") {
  const auto profile = parse_seccomp_profile(R"({
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
    "syscalls": [
      {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
      {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
       "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]})",
                                             0);
  REQUIRE(profile);
  CHECK(profile->default_action == SCMP_ACT_ERRNO(ENOSYS));
  REQUIRE(profile->rules.size() == 2);
  CHECK(profile->rules[0].names == std::vector<std::string>{"read", "write"});
  REQUIRE(profile->rules[1].conditions.size() == 1);
  CHECK(profile->rules[1].conditions[0].datum_a == 8);
}

TEST_CASE("seccomp profile: rules for a capability count only with it") {
  const char* text = R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
      {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
      {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]})";
  const auto without = parse_seccomp_profile(text, 0);
  REQUIRE(without);
  REQUIRE(without->rules.size() == 1);
  CHECK(without->rules[0].names[0] == "clone");
  const auto with = parse_seccomp_profile(text, *parse_capability("sys_admin"));
  REQUIRE(with);
  REQUIRE(with->rules.size() == 1);
  CHECK(with->rules[0].names[0] == "mount");
}

TEST_CASE("seccomp profile: what is not understood is an error, not a rule left out") {
  for (const char* text :
       {"", "[]", R"({"syscalls": []})", R"({"defaultAction": "SCMP_ACT_ALLOW"})",
        R"({"defaultAction": "SCMP_ACT_FLY", "syscalls": []})",
        R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"]}]})",
        R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO"}]})",
        R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"],
            "action": "SCMP_ACT_ERRNO", "includes": {"moon": "full"}}]})"}) {
    INFO(text);
    CHECK_FALSE(parse_seccomp_profile(text, 0));
  }
}
