#include "tools/run/terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace layerfs::run {
namespace {

using Buffer = std::array<char, 16384>;

// Waits for room: nothing is lost when the reader is slow.
bool write_all(int fd, const char* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t count = ::write(fd, data + done, size - done);
    if (count >= 0) {
      done += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN) {
      pollfd item{fd, POLLOUT, 0};
      ::poll(&item, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace

void TerminalRelay::start(UniqueFd master) {
  master_ = std::move(master);
  resize();
  if (::tcgetattr(STDIN_FILENO, &before_) == 0) {
    struct termios raw = before_;
    ::cfmakeraw(&raw);
    raw_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
  }
}

void TerminalRelay::restore() {
  if (raw_) {
    ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
    raw_ = false;
  }
}

void TerminalRelay::finish() {
  while (master_) {
    pollfd item{master_.get(), POLLIN, 0};
    if (::poll(&item, 1, 0) <= 0 || (item.revents & POLLIN) == 0) {
      break;
    }
    copy_output();
  }
  master_.reset();
  restore();
}

void TerminalRelay::resize() const {
  winsize size{};
  if (master_ && ::ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0) {
    ::ioctl(master_.get(), TIOCSWINSZ, &size);
  }
}

int TerminalRelay::input() const { return master_ && input_open_ ? STDIN_FILENO : -1; }

void TerminalRelay::copy_input() {
  Buffer buffer;
  const ssize_t count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
  if (count > 0) {
    write_all(master_.get(), buffer.data(), static_cast<std::size_t>(count));
  } else if (count == 0 || errno != EINTR) {
    // The end of the input is ^D to whoever reads from a terminal.
    constexpr char kEnd = 4;
    write_all(master_.get(), &kEnd, 1);
    input_open_ = false;
  }
}

void TerminalRelay::copy_output() {
  Buffer buffer;
  const ssize_t count = ::read(master_.get(), buffer.data(), buffer.size());
  if (count > 0) {
    write_all(STDOUT_FILENO, buffer.data(), static_cast<std::size_t>(count));
  } else if (count == 0 || errno != EINTR) {
    master_.reset();  // EIO: nobody has the other side open any more
  }
}

}  // namespace layerfs::run
