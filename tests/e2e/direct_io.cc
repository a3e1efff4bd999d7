// O_DIRECT beside the page cache, also by asynchronous I/O.
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

constexpr std::size_t kSize = 640 * 1024;

struct Free {
  void operator()(char* memory) const { std::free(memory); }
};
std::unique_ptr<char, Free> aligned_block(char fill) {
  auto* memory = static_cast<char*>(std::aligned_alloc(4096, kSize));
  std::memset(memory, fill, kSize);
  return std::unique_ptr<char, Free>(memory);
}

// One write that the kernel is asked for without waiting, and then waited for; its result.
long write_asynchronously(aio_context_t context, int fd, const char* data) {
  iocb request = {};
  request.aio_lio_opcode = IOCB_CMD_PWRITE;
  request.aio_fildes = static_cast<std::uint32_t>(fd);
  request.aio_buf = reinterpret_cast<std::uintptr_t>(data);
  request.aio_nbytes = kSize;
  iocb* requests[] = {&request};
  if (::syscall(SYS_io_submit, context, 1, requests) != 1) {
    return -1;
  }
  io_event event = {};
  return ::syscall(SYS_io_getevents, context, 1, 1, &event, nullptr) == 1 ? event.res : -1;
}

}  // namespace

TEST_CASE("what an asynchronous O_DIRECT write has written is read, whoever reads meanwhile") {
  using namespace std::chrono_literals;
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  mount.mount("--io " + io);
  write_file(mount.at("f"), std::string(kSize, 'a'));
  const int direct = ::open(mount.at("f").c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
  const int buffered = ::open(mount.at("f").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(direct >= 0);
  std::atomic<bool> done = false;
  std::thread reader([&] {
    std::string into(kSize, 0);
    while (!done) {
      if (::pread(buffered, into.data(), into.size(), 0) < 0) {
        return;
      }
    }
  });
  aio_context_t context = 0;
  REQUIRE(::syscall(SYS_io_setup, 1, &context) == 0);
  std::string seen(kSize, 0);
  int stale = 0;
  const auto end = std::chrono::steady_clock::now() + 2s;
  for (char fill = 'b'; stale == 0 && std::chrono::steady_clock::now() < end;
       fill = fill == 'z' ? 'a' : static_cast<char>(fill + 1)) {
    const auto block = aligned_block(fill);
    if (write_asynchronously(context, direct, block.get()) != static_cast<long>(kSize)) {
      FAIL_CHECK("the write failed");
      break;
    }
    CHECK(::pread(buffered, seen.data(), seen.size(), 0) == static_cast<ssize_t>(kSize));
    stale = seen == std::string(kSize, fill) ? 0 : 1;
  }
  done = true;
  reader.join();
  ::syscall(SYS_io_destroy, context);
  ::close(direct);
  ::close(buffered);
  CHECK(stale == 0);
}

TEST_CASE("an O_DIRECT read of any length has the file's bytes, up to its end and no further") {
  const std::string io = GENERATE(from_range(io_modes()));
  const bool in_upper = GENERATE(false, true);
  CAPTURE(io, in_upper);
  std::string content(kSize - 77, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) {
    content[i] = static_cast<char>(i * 2654435761U >> 13U);
  }
  TestMount mount;
  write_file((in_upper ? mount.upper() : mount.lower()) + "/f", content);
  mount.mount("--io " + io);
  const int fd = ::open(mount.at("f").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  REQUIRE(fd >= 0);
  const auto block = aligned_block('?');
  // On both sides of what the kernel asks for at once.
  for (const std::size_t length : {512U, 4096U, 65536U, 258048U, 262144U, 266240U, 655360U}) {
    for (const std::size_t at : {0U, 4096U, 524288U, 589824U, 651264U, 655360U}) {
      const std::size_t left = content.size() - std::min(at, content.size());
      const std::size_t expected = std::min(length, left);
      CAPTURE(length, at);
      std::memset(block.get(), '?', kSize);
      REQUIRE(::pread(fd, block.get(), length, static_cast<off_t>(at)) ==
              static_cast<ssize_t>(expected));
      CHECK(std::memcmp(block.get(), content.data() + std::min(at, content.size()), expected) == 0);
    }
  }
  ::close(fd);
}
