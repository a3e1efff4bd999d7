#include "tools/common/progress.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

using namespace layerfs;

TEST_CASE("progress: sizes for people") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(999) == "999 B");
  CHECK(format_bytes(1536) == "1.5 KiB");
  CHECK(format_bytes(200 << 20) == "200 MiB");
  CHECK(format_bytes(std::uint64_t{3} << 40) == "3.0 TiB");
}

TEST_CASE("progress: a bar has rate and time left, and never is wider than asked") {
  const std::string bar = format_bar("committing", 50 << 20, 100 << 20, 10, 100);
  CHECK(bar.find("50.0 MiB of 100 MiB, 5.0 MiB/s, 0:10 left") != std::string::npos);
  CHECK(bar.find("[####") != std::string::npos);
  for (const std::size_t width : {0U, 1U, 20U, 60U, 80U, 200U}) {
    CHECK(format_bar("committing", 50 << 20, 100 << 20, 10, width).size() <= width);
  }
  CHECK(format_bar("x", 1024, 0, 3700, 80) == "x 1.0 KiB, 0 B/s, 1:01:40");
}

TEST_CASE("progress: nothing is shown where there is no terminal") {
  std::ostringstream err;
  {
    Progress progress(err, ProgressMode::Auto, false);
    progress.start("work", 10);
    progress.add(10);
    progress.finish();
  }
  CHECK(err.str().empty());
}

TEST_CASE("progress: json ends with a line that says so") {
  std::ostringstream err;
  Progress progress(err, ProgressMode::Json, false);
  progress.start("work", 10);
  progress.add(4);
  progress.finish();
  const auto line = nlohmann::json::parse(err.str());
  CHECK(line["progress"] == "work");
  CHECK(line["bytes"] == 4);
  CHECK(line["total"] == 10);
  CHECK(line["done"] == true);
}

TEST_CASE("progress: a bar that was drawn is wiped, also after a failure") {
  std::ostringstream err;
  {
    Progress progress(err, ProgressMode::Bar, true);
    progress.start("work", 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    progress.add(4);
    REQUIRE(err.str().find("work") != std::string::npos);
  }
  CHECK(err.str().ends_with("\r\033[K"));
}
