#include "tools/run/container_user.h"

#include <catch2/catch.hpp>

using namespace layerfs::run;

namespace {

const AccountFiles kFiles{
    "root:x:0:0:root:/root:/bin/sh\n"
    "# a comment\n"
    "bob:x:1000:1001:Bob:/home/bob:/bin/sh\n"
    "1234:x:7:8::/digits:\n"
    "bad:x:99999999999:1::/:\n",
    "root:x:0:\nbob:x:1001:\nwheel:x:50:alice,bob\nvideo:x:44:bob,alice\nboss:x:60:bobby\n"};

}  // namespace

TEST_CASE("container user: a name gives its ids, home and all its groups") {
  const auto user = find_user("bob", kFiles);
  REQUIRE(user);
  CHECK(user->uid == 1000);
  CHECK(user->gid == 1001);
  CHECK(user->home == "/home/bob");
  CHECK(user->groups == std::vector<gid_t>{1001, 50, 44});
}

TEST_CASE("container user: with a group given there are no further groups") {
  const auto user = find_user("bob:wheel", kFiles);
  REQUIRE(user);
  CHECK(user->gid == 50);
  CHECK(user->groups == std::vector<gid_t>{50});
}

TEST_CASE("container user: a number without an account is itself, with group 0") {
  const auto user = find_user("4711", kFiles);
  REQUIRE(user);
  CHECK(user->uid == 4711);
  CHECK(user->gid == 0);
  CHECK(user->home == "/");
}

TEST_CASE("container user: a number with an account takes that account's group and home") {
  const auto user = find_user("1000", kFiles);
  REQUIRE(user);
  CHECK(user->gid == 1001);
  CHECK(user->home == "/home/bob");
}

TEST_CASE("container user: a name of digits wins over the number") {
  const auto user = find_user("1234", kFiles);
  REQUIRE(user);
  CHECK(user->uid == 7);
}

TEST_CASE("container user: nothing given is root") {
  const auto user = find_user("", kFiles);
  REQUIRE(user);
  CHECK(user->uid == 0);
  CHECK(user->home == "/root");
}

TEST_CASE("container user: what is no user is an error and never root") {
  for (const char* spec : {"nobody", "-1", "2147483648", "4294967296", "99999999999999999999", "1 ",
                           "0x0", ":0", "bob:", "bob:nogroup", "bob:2147483648", "bad", "+1"}) {
    INFO(spec);
    CHECK_FALSE(find_user(spec, kFiles));
  }
}
