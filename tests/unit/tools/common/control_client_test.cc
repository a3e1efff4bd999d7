// Whom the client believes, and what it says when there is nobody to ask. The servers
// are threads of this test, under device numbers that no mount has.
#include "tools/common/control_client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "layers/sys/unique_fd.h"
#include "tests/testlib/skip.h"

using namespace layerfs;

namespace {

// No device has this major number; the minor keeps parallel tests apart.
MountEntry invented_mount(unsigned minor) {
  MountEntry mount;
  mount.major = 0xfffff;
  mount.minor = static_cast<unsigned>(::getpid()) * 16 + minor;
  mount.mount_point = "/nowhere/at/all";
  return mount;
}

UniqueFd listen_as_daemon(const MountEntry& mount) {
  const std::string name = control_socket_name(mount.major, mount.minor);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(&address.sun_path[1], sizeof address.sun_path - 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())) == 0);
  REQUIRE(::listen(fd.get(), 4) == 0);
  return fd;
}

// Reads one line, sends `answer` in two pieces and closes.
std::string serve_once(int listener, const std::string& answer) {
  const UniqueFd peer(::accept(listener, nullptr, nullptr));
  std::string request;
  for (char c = 0; ::recv(peer.get(), &c, 1, 0) == 1 && c != '\n';) {
    request.push_back(c);
  }
  const std::size_t half = answer.size() / 2;
  for (const std::string& part : {answer.substr(0, half), answer.substr(half)}) {
    REQUIRE(::send(peer.get(), part.data(), part.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(part.size()));
  }
  return request;
}

}  // namespace

TEST_CASE("a request is one line, the answer is all that comes until the end") {
  const MountEntry mount = invented_mount(0);
  const UniqueFd listener = listen_as_daemon(mount);
  const std::string long_answer = R"({"x":")" + std::string(200'000, 'y') + "\"}\n";
  std::string request;
  std::thread server([&] { request = serve_once(listener.get(), long_answer); });
  const auto reply = ask_daemon(mount, {.line = R"({"cmd":"stats"})"});
  server.join();
  REQUIRE(reply);
  CHECK(request == R"({"cmd":"stats"})");
  CHECK(reply->text + "\n" == long_answer);
  CHECK(reply->server == ::getpid());
}

TEST_CASE("an answer that is no JSON object is a failure") {
  const MountEntry mount = invented_mount(1);
  const UniqueFd listener = listen_as_daemon(mount);
  for (const std::string answer : {"hello\n", "[1]\n", "{\"a\":\n"}) {
    std::thread server([&] { serve_once(listener.get(), answer); });
    const auto reply = ask_daemon_json(mount, {.line = "{}"});
    server.join();
    REQUIRE(!reply);
    CHECK(reply.error().message.find("not JSON") != std::string::npos);
  }
}

TEST_CASE("nobody listens: the failure names the mount point") {
  const auto reply = ask_daemon(invented_mount(2), {.line = "{}"});
  REQUIRE(!reply);
  CHECK(reply.error().code == ExitCode::Failure);
  CHECK(reply.error().message.find("'/nowhere/at/all': its daemon does not listen") == 0);
}

TEST_CASE("a daemon that closes without a word refuses this user") {
  const MountEntry mount = invented_mount(3);
  const UniqueFd listener = listen_as_daemon(mount);
  std::thread server([&] { serve_once(listener.get(), ""); });
  const auto reply = ask_daemon(mount, {.line = "{}"});
  server.join();
  REQUIRE(!reply);
  CHECK(reply.error().message.find("refuses to answer") != std::string::npos);
}

TEST_CASE("a daemon that does not answer is given up after the patience") {
  const MountEntry mount = invented_mount(4);
  const UniqueFd listener = listen_as_daemon(mount);
  const auto reply = ask_daemon(mount, {.line = "{}", .patience = std::chrono::milliseconds(50)});
  REQUIRE(!reply);
  CHECK(reply.error().message.find("does not answer") != std::string::npos);
}

TEST_CASE("a name held by another user is asked nothing, unless that user made the mount") {
  if (::geteuid() != 0) {
    SKIP_TEST("needs root, to listen as another user");
  }
  constexpr uid_t kStranger = 12345;
  MountEntry mount = invented_mount(5);
  const UniqueFd listener = listen_as_daemon(mount);
  // SO_PEERCRED tells who called listen(2).
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(::setuid(kStranger) == 0 && ::listen(listener.get(), 4) == 0 ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  const auto refused = ask_daemon(mount, {.line = "{}"});
  REQUIRE(!refused);
  CHECK(refused.error().message.find("user 12345, who did not make this mount") !=
        std::string::npos);
  mount.super_options = "rw,user_id=12345,group_id=0";
  const UniqueFd hung_up(::accept(listener.get(), nullptr, nullptr));
  std::thread server([&] { serve_once(listener.get(), "{}\n"); });
  CHECK(ask_daemon(mount, {.line = "{}"}));
  server.join();
}
