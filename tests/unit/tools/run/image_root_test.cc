#include "tools/run/image_root.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

using namespace layerfs;
using namespace layerfs::run;

namespace {

using Words = std::vector<std::string>;

nlohmann::json unpacked() {
  return {{"stack", "/s/b:/s/a"},
          {"config",
           {{"Entrypoint", {"/entry", "-x"}},
            {"Cmd", {"serve"}},
            {"Env", {"PATH=/opt", "A=image"}},
            {"WorkingDir", "/srv"},
            {"User", "www:www"}}}};
}

}  // namespace

TEST_CASE("image: its layers are below those of the command line") {
  RunConfig config;
  config.layers = {"/mine"};
  REQUIRE(apply_image(config, unpacked()));
  CHECK(config.layers == Words{"/mine", "/s/b", "/s/a"});
}

TEST_CASE("image: entrypoint, command, variables, directory and user are taken from it") {
  RunConfig config;
  REQUIRE(apply_image(config, unpacked()));
  CHECK(config.command == Words{"/entry", "-x", "serve"});
  CHECK(config.environment == Words{"PATH=/opt", "A=image"});
  CHECK(config.workdir == "/srv");
  CHECK(config.make_workdir);
  CHECK(config.user == "www:www");
}

TEST_CASE("image: the command line wins over it") {
  RunConfig config;
  config.command = {"ls", "-l"};
  config.environment = {"A=mine"};
  config.workdir = "/tmp";
  config.user = "0";
  REQUIRE(apply_image(config, unpacked()));
  CHECK(config.command == Words{"/entry", "-x", "ls", "-l"});
  CHECK(config.environment == Words{"PATH=/opt", "A=image", "A=mine"});
  CHECK(config.workdir == "/tmp");
  CHECK_FALSE(config.make_workdir);
  CHECK(config.user == "0");
}

TEST_CASE("image: another entrypoint is without the image's command") {
  RunConfig config;
  config.entrypoint = "/mine";
  REQUIRE(apply_image(config, unpacked()));
  CHECK(config.command == Words{"/mine"});
}

TEST_CASE("image: without any command it is a usage error") {
  RunConfig config;
  auto document = unpacked();
  document["config"] = nlohmann::json::object();
  const auto without = apply_image(config, document);
  REQUIRE_FALSE(without);
  CHECK(without.error().code == ExitCode::Usage);
}

TEST_CASE("image: null means nothing, and what is no list of words is refused") {
  RunConfig config;
  config.command = {"sh"};
  auto document = unpacked();
  document["config"] = {{"Entrypoint", nullptr}, {"Cmd", nullptr}, {"User", nullptr}};
  REQUIRE(apply_image(config, document));
  CHECK(config.command == Words{"sh"});
  document["config"] = {{"Cmd", {1, 2}}};
  CHECK_FALSE(apply_image(config, document));
  document["config"] = {{"Env", "A=b"}};
  CHECK_FALSE(apply_image(config, document));
  CHECK_FALSE(apply_image(config, nlohmann::json::parse("3")));
  CHECK_FALSE(apply_image(config, nlohmann::json::parse("{", nullptr, false)));
}
