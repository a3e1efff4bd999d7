#include "tools/run/ending.h"

#include <catch2/catch.hpp>
#include <csignal>
#include <nlohmann/json.hpp>

using namespace layerfs::run;

TEST_CASE("ending: a kill for memory names the limit, the peak and the command") {
  Limits limits;
  limits.memory = 512ULL << 20;
  Ending ending;
  ending.code = 137;
  ending.wait_status = SIGKILL;
  ending.used.memory_peak = 512ULL << 20;
  ending.used.oom_kills = 1;
  CHECK(explain(ending, limits, "python") ==
        "exit 137: killed by the 512M memory limit (peak 512M, 1 oom_kill, python)");
  const auto report = nlohmann::json::parse(report_text(ending, limits, "python"));
  CHECK(report["cause"] == "oom");
  CHECK(report["signal"] == SIGKILL);
  CHECK(report["exit"] == 137);
  CHECK(report["memory_peak"] == 536870912);
}

TEST_CASE("ending: a kill by somebody is not said to be for memory") {
  Limits limits;
  limits.memory = 1 << 20;
  Ending ending;
  ending.code = 137;
  ending.wait_status = SIGKILL;
  CHECK(explain(ending, limits, "sh").empty());
  const auto report = nlohmann::json::parse(report_text(ending, limits, "sh"));
  CHECK(report["cause"] == "signal");
}

TEST_CASE("ending: success needs no explanation, whatever was killed meanwhile") {
  Limits limits;
  limits.memory = 1 << 20;
  Ending ending;
  ending.code = 0;
  ending.wait_status = 0;
  ending.used.oom_kills = 1;
  CHECK(explain(ending, limits, "sh").empty());
}
