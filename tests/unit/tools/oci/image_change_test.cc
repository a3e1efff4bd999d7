#include "tools/oci/image_change.h"

#include <catch2/catch.hpp>

using namespace layerfs;
using namespace layerfs::oci;
using nlohmann::json;

namespace {

json changed(json config, const std::vector<std::string>& changes) {
  const auto done = apply_changes(config, changes);
  INFO((done ? "" : done.error().message));
  REQUIRE(done);
  return config;
}

std::string refusal(const std::string& change) {
  json config = json::object();
  const auto done = apply_changes(config, {change});
  return done ? "" : done.error().message;
}

}  // namespace

TEST_CASE("image change: commands in both forms, ENTRYPOINT drops an earlier CMD only") {
  CHECK(changed({}, {"CMD echo  hi"})["Cmd"] == json({"/bin/sh", "-c", "echo  hi"}));
  CHECK(changed({}, {R"(cmd ["a", "b c"])"})["Cmd"] == json({"a", "b c"}));
  CHECK(changed({}, {R"(CMD [a])"})["Cmd"] == json({"/bin/sh", "-c", "[a]"}));
  const json base = {{"Cmd", {"old"}}};
  CHECK_FALSE(changed(base, {R"(ENTRYPOINT ["e"])"}).contains("Cmd"));
  CHECK(changed(base, {R"(CMD ["new"])", R"(ENTRYPOINT ["e"])"})["Cmd"] == json::array({"new"}));
}

TEST_CASE("image change: ENV replaces in place, expands variables, knows quotes and the old form") {
  const json base = {{"Env", {"PATH=/bin", "A=1"}}};
  CHECK(changed(base, {"ENV PATH=$PATH:/x B='$A' C=\"${A} ${N:-no}${A:+yes}\""})["Env"] ==
        json({"PATH=/bin:/x", "A=1", "B=$A", "C=1 noyes"}));
  CHECK(changed({}, {"ENV NAME the  rest"})["Env"] == json::array({"NAME=the  rest"}));
  CHECK(changed({}, {R"(ENV A=a\ b B=)"})["Env"] == json({"A=a b", "B="}));
}

TEST_CASE("image change: the other instructions") {
  CHECK(changed({}, {"LABEL a=1 \"b c\"=\"d e\""})["Labels"] == json({{"a", "1"}, {"b c", "d e"}}));
  CHECK(changed({}, {"EXPOSE 80 53/udp 8000-8001"})["ExposedPorts"].dump() ==
        R"({"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{}})");
  CHECK(changed({}, {"VOLUME /a /b", R"(VOLUME ["/c d"])"})["Volumes"].size() == 3);
  CHECK(changed({}, {"WORKDIR /a/../b/", "WORKDIR c"})["WorkingDir"] == "/b/c");
  CHECK(changed({}, {"USER 1000:5"})["User"] == "1000:5");
  CHECK(changed({}, {"STOPSIGNAL SIGINT"})["StopSignal"] == "SIGINT");
}

TEST_CASE("image change: what docker and podman know beyond the specification") {
  CHECK(changed({}, {"ONBUILD RUN make", "onbuild COPY a b"})["OnBuild"] ==
        json({"RUN make", "COPY a b"}));
  const json shelled = changed({}, {R"(SHELL ["/bin/bash", "-lc"])", "CMD x"});
  CHECK(shelled["Shell"] == json({"/bin/bash", "-lc"}));
  CHECK(shelled["Cmd"] == json({"/bin/bash", "-lc", "x"}));
  CHECK(changed({}, {"HEALTHCHECK NONE"})["Healthcheck"] ==
        json({{"Test", json::array({"NONE"})}}));
  CHECK(changed({}, {"HEALTHCHECK CMD curl -f x"})["Healthcheck"] ==
        json({{"Test", {"CMD-SHELL", "curl -f x"}}}));
  CHECK(changed({}, {R"(HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=500ms )"
                     R"(--retries=3 CMD ["/check", "it"])"})["Healthcheck"] ==
        json({{"Test", {"CMD", "/check", "it"}},
              {"Interval", 90'000'000'000},
              {"Timeout", 1'500'000'000},
              {"StartPeriod", 500'000'000},
              {"Retries", 3}}));
}

TEST_CASE("image change: what is not understood is refused by its text") {
  for (const char* wrong : {"",
                            "CMD",
                            "RUN x",
                            "ENV A",
                            "ENV A=1 B",
                            "ENV A='x",
                            "EXPOSE 0",
                            "EXPOSE 65536",
                            "SHELL /bin/sh",
                            "SHELL []",
                            "ONBUILD FROM x",
                            "ONBUILD ONBUILD RUN x",
                            "HEALTHCHECK",
                            "HEALTHCHECK x",
                            "HEALTHCHECK CMD",
                            "HEALTHCHECK NONE x",
                            "HEALTHCHECK --interval=5 CMD x",
                            "HEALTHCHECK --retries=x CMD x",
                            "HEALTHCHECK --foo=1s CMD x",
                            "EXPOSE 5-4",
                            "EXPOSE 1/icmp",
                            "LABEL =x",
                            "ENV A=${",
                            "ENV A=${B?x}"}) {
    CAPTURE(wrong);
    CHECK_FALSE(refusal(wrong).empty());
    CHECK(refusal(wrong).find(std::string("'") + wrong + "'") == 0);
  }
}
