#include "layers/mount_config.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

using namespace layerfs;

namespace {

MountConfig smallest() {
  MountConfig config;
  config.lowers = {"/l"};
  config.mountpoint = "/m";
  return config;
}

MountConfig everything() {
  MountConfig c = smallest();
  c.lowers = {"/a b", "/c:d\\e", std::string("/not-utf8-\xff\xc3")};
  c.upper = "/u\n\"quoted\"";
  c.work = "/w";
  c.init = "/i";
  c.foreground = true;
  c.read_only = true;
  c.io = MountConfig::Io::Passthrough;
  c.whiteout = MountConfig::Whiteout::Oci;
  c.xattr = MountConfig::Xattr::User;
  c.redirect = c.metacopy = c.index = c.acl = c.xattrs = false;
  c.override_stat = MountConfig::OverrideStat::Off;
  c.volatile_ = true;
  c.discarded = true;
  c.allow_other = MountConfig::AllowOther::No;
  c.default_permissions = false;
  c.threads = 7;
  c.timeout = 0.25;
  c.log_level = MountConfig::LogLevel::Trace;
  c.log_file = "/log";
  c.squash_uid = 4294967294;
  c.squash_gid = 0;
  c.uid_map = {{0, 1000, 1}, {1, 100000, 65536}};
  c.gid_map = {{0, 0, 4294967295U}};
  c.unmapped_as_overflow = true;
  c.accept_unclean = true;
  c.static_nlink = true;
  c.fsname = "name";
  c.mount_flags = {"nosuid", "noatime"};
  return c;
}

std::string refusal(const std::string& text) {
  std::string why;
  CHECK(!parse_mount_config(text, why));
  CHECK(!why.empty());
  CHECK(why.find('\n') == std::string::npos);
  return why;
}

}  // namespace

TEST_CASE("a configuration survives the way through JSON, in one line") {
  for (const MountConfig& config : {smallest(), everything()}) {
    const std::string text = to_json_text(config);
    CHECK(text.find('\n') == std::string::npos);
    std::string why;
    const auto back = parse_mount_config(text, why);
    INFO(why);
    REQUIRE(back);
    CHECK(*back == config);
  }
}

TEST_CASE("keys that are missing keep their defaults") {
  std::string why;
  const auto config = parse_mount_config(R"({"lowers":["/l"],"mountpoint":"/m"})", why);
  REQUIRE(config);
  CHECK(*config == smallest());
}

TEST_CASE("what is refused, and named") {
  CHECK(!refusal("").empty());
  CHECK(!refusal("[]").empty());
  CHECK(refusal(R"({"mountpoint":"/m"})").find("lowers") != std::string::npos);
  CHECK(refusal(R"({"lowers":["/l"]})").find("mountpoint") != std::string::npos);
  const auto with = [](const std::string& member) {
    return refusal(R"({"lowers":["/l"],"mountpoint":"/m",)" + member + "}");
  };
  CHECK(with(R"("shoes":1)").find("shoes") != std::string::npos);
  CHECK(with(R"("io":"fast")").find("\"io\"") != std::string::npos);
  CHECK(with(R"("redirect":"yes")").find("redirect") != std::string::npos);
  CHECK(with(R"("threads":99999999999)").find("threads") != std::string::npos);
  CHECK(with(R"("uid_map":[[0,1]])").find("uid_map") != std::string::npos);
  CHECK(with(R"("uid_map":[[0,-1,1]])").find("uid_map") != std::string::npos);
  CHECK(with(R"("upper":{"hex":"0"})").find("upper") != std::string::npos);
  CHECK(with(R"("upper":{"hex":"zz"})").find("upper") != std::string::npos);
  CHECK(with(R"("upper":"a\u0000b")").find("NUL") != std::string::npos);
  CHECK(with(R"("upper":{"hex":"00"})").find("NUL") != std::string::npos);
}

TEST_CASE("the default work directory is a hidden sibling, also below / and for relative names") {
  CHECK(default_work_dir("/a/up") == "/a/.up.layerfs-work");
  CHECK(default_work_dir("/a/up///") == "/a/.up.layerfs-work");
  CHECK(default_work_dir("/up") == "/.up.layerfs-work");
  CHECK(default_work_dir("up") == ".up.layerfs-work");
}

TEST_CASE("bytes that are UTF-8 stay readable in JSON, others are hexadecimal") {
  CHECK(bytes_to_json("ä").dump() == "\"ä\"");
  CHECK(bytes_to_json("\xff").dump() == R"({"hex":"ff"})");
  CHECK(bytes_from_json(bytes_to_json("\xff\xfe")) == "\xff\xfe");
  CHECK(!bytes_from_json(3));
}
