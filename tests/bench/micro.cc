// Times single operations below a directory, whatever filesystem that is on.
//
//   bench-micro prepare DIR --files N --wide N --big BYTES   makes the tree that the rows need
//   bench-micro run DIR [--row NAME]...             one line a row: NAME OPERATIONS NANOSECONDS,
//                                                   or NAME 0 WHY-NOT
//   bench-micro rows DIR                            the names, one a line
//   bench-micro wide DIR --files N                  makes one directory of N empty files
//   bench-micro deep DIR --files N                  makes a tree of N empty files
//   bench-micro clients DIR --processes P --files N as run: P processes at once, N files each
//
// The rows change the tree, and "first" means that nothing was asked before: each run wants
// a fresh mount with an empty upper.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kFilesPerDirectory = 50;
constexpr std::size_t kBlock = 4096;

// Thrown past a row, which then has no figure.
struct Refused {
  std::string why;
};

void check(bool done, const std::string& what) {
  if (!done) {
    throw Refused{what + ": " + std::generic_category().message(errno)};
  }
}

class File {
 public:
  File(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    check(fd_ >= 0, path);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { ::close(fd_); }
  int fd() const { return fd_; }

 private:
  int fd_;
};

void write_bytes(const std::string& path, std::uint64_t size) {
  const File file(path, O_CREAT | O_WRONLY | O_TRUNC);
  static const std::string block(1 << 20, 'x');
  for (std::uint64_t done = 0; done < size;) {
    const auto part = std::min<std::uint64_t>(block.size(), size - done);
    check(::write(file.fd(), block.data(), part) == static_cast<ssize_t>(part), path);
    done += part;
  }
}

// Files 0 .. files-1, each in exactly one group; a row uses up its own group only.
enum class Group { Read, CopyUp, Unlink, Chown, Count };

std::string lower_file(Group group, std::size_t i) {
  return "tree/g" + std::to_string(static_cast<int>(group)) + "/d" +
         std::to_string(i / kFilesPerDirectory) + "/f" + std::to_string(i % kFilesPerDirectory);
}

void make_wide(const std::string& dir, std::size_t files) {
  std::filesystem::create_directories(dir);
  for (std::size_t i = 0; i < files; ++i) {
    write_bytes(dir + "/entry" + std::to_string(i), 0);
  }
}

void make_deep(const std::string& dir, std::size_t files) {
  constexpr std::size_t kEach = 100;
  for (std::size_t i = 0; i < files; ++i) {
    const std::string parent =
        dir + "/a" + std::to_string(i / kEach / kEach) + "/b" + std::to_string(i / kEach % kEach);
    if (i % kEach == 0) {
      std::filesystem::create_directories(parent);
    }
    write_bytes(parent + "/file" + std::to_string(i % kEach), 0);
  }
}

void prepare(const std::string& dir, std::size_t files, std::size_t wide, std::uint64_t big) {
  std::filesystem::current_path(dir);
  for (int g = 0; g < static_cast<int>(Group::Count); ++g) {
    for (std::size_t i = 0; i < files; ++i) {
      const std::string path = lower_file(static_cast<Group>(g), i);
      std::filesystem::create_directories(std::filesystem::path(path).parent_path());
      write_bytes(path, kBlock);
    }
  }
  std::filesystem::create_directories("big");
  for (int i = 0; i < 8; ++i) {
    write_bytes("big/mebibyte" + std::to_string(i), 1 << 20);
  }
  write_bytes("big/copied", big);
  write_bytes("big/touched", big);
  make_wide("wide", wide);
  write_bytes("count", files);
}

struct Row {
  std::string name;
  std::size_t operations;
  std::function<void(std::size_t)> operation;
  // Untimed, before and after.
  std::function<void()> before = nullptr;
  std::function<void()> after = nullptr;
};

void lstat_of(const std::string& path) {
  struct stat st {};
  check(::lstat(path.c_str(), &st) == 0, path);
}

void read_whole(const std::string& path) {
  const File file(path, O_RDONLY);
  char block[kBlock];
  check(::read(file.fd(), block, sizeof block) == static_cast<ssize_t>(kBlock), path);
}

void append(const std::string& path) {
  const File file(path, O_WRONLY | O_APPEND);
  check(::write(file.fd(), "y", 1) == 1, path);
}

std::vector<Row> all_rows() {
  struct stat count {};
  check(::stat("count", &count) == 0, "count");
  const auto files = static_cast<std::size_t>(count.st_size);
  static char block[kBlock];
  const auto own = [](const char* kind, std::size_t i) {
    return "w/" + std::string(kind) + std::to_string(i);
  };
  const auto missing = [](std::size_t i) {
    struct stat st {};
    const std::string path = lower_file(Group::Read, i) + "-none";
    check(::lstat(path.c_str(), &st) != 0 && errno == ENOENT, path);
  };
  static int fd = -1;
  const auto open_own = [own] { fd = ::open(own("f", 0).c_str(), O_RDWR | O_CLOEXEC); };
  const auto close_own = [] { ::close(fd); };
  const auto walk = [](std::size_t i) { lstat_of(lower_file(Group::Read, i)); };
  const auto read = [](std::size_t i) { read_whole(lower_file(Group::Read, i)); };
  const auto list = [](std::size_t) {
    DIR* dir = ::opendir("wide");
    check(dir != nullptr, "wide");
    while (::readdir(dir) != nullptr) {
    }
    ::closedir(dir);
  };
  return {
      {"walk+stat first", files, walk},
      {"walk+stat again", files, walk},
      {"lstat missing first", files, missing},
      {"lstat missing again", files, missing},
      {"open+read+close first", files, read},
      {"open+read+close again", files, read},
      {"readdir first", 1, list},
      {"readdir again", 1, list},
      {"create+write+close", files,
       [own](std::size_t i) {
         const File file(own("f", i), O_CREAT | O_EXCL | O_WRONLY);
         check(::write(file.fd(), block, kBlock) == static_cast<ssize_t>(kBlock), own("f", i));
       },
       [] { check(::mkdir("w", 0755) == 0, "w"); }},
      {"append", files, [own](std::size_t i) { append(own("f", i)); }},
      {"pwrite 4k", files,
       [](std::size_t i) {
         check(::pwrite(fd, block, kBlock, static_cast<off_t>(i * kBlock)) ==
                   static_cast<ssize_t>(kBlock),
               "pwrite");
       },
       open_own, close_own},
      {"pread 4k", files,
       [](std::size_t i) {
         check(::pread(fd, block, kBlock, static_cast<off_t>(i * kBlock)) ==
                   static_cast<ssize_t>(kBlock),
               "pread");
       },
       open_own, close_own},
      {"chmod", files,
       [own](std::size_t i) { check(::chmod(own("f", i).c_str(), 0600) == 0, own("f", i)); }},
      {"setxattr", files,
       [own](std::size_t i) {
         check(::setxattr(own("f", i).c_str(), "user.bench", "v", 1, 0) == 0, own("f", i));
       }},
      {"getxattr", files,
       [own](std::size_t i) {
         check(::getxattr(own("f", i).c_str(), "user.bench", block, kBlock) == 1, own("f", i));
       }},
      {"link", files,
       [own](std::size_t i) {
         check(::link(own("f", i).c_str(), own("l", i).c_str()) == 0, own("l", i));
       }},
      {"symlink", files,
       [own](std::size_t i) { check(::symlink("f", own("s", i).c_str()) == 0, own("s", i)); }},
      {"rename", files,
       [own](std::size_t i) {
         check(::rename(own("f", i).c_str(), own("g", i).c_str()) == 0, own("g", i));
       }},
      {"unlink upper", files,
       [own](std::size_t i) { check(::unlink(own("g", i).c_str()) == 0, own("g", i)); }},
      {"mkdir", files,
       [own](std::size_t i) { check(::mkdir(own("d", i).c_str(), 0755) == 0, own("d", i)); }},
      {"rmdir", files,
       [own](std::size_t i) { check(::rmdir(own("d", i).c_str()) == 0, own("d", i)); }},
      {"copy-up 4k", files, [](std::size_t i) { append(lower_file(Group::CopyUp, i)); }},
      {"copy-up 1M", 8, [](std::size_t i) { append("big/mebibyte" + std::to_string(i)); }},
      {"copy-up big", 1, [](std::size_t) { append("big/copied"); }},
      {"first write to big", 1,
       [](std::size_t) {
         const File file("big/touched", O_RDWR);
         check(::pwrite(file.fd(), "y", 1, 12345) == 1, "big/touched");
       }},
      {"chown lower", files,
       [](std::size_t i) {
         const std::string path = lower_file(Group::Chown, i);
         check(::lchown(path.c_str(), 1000, 1000) == 0, path);
       }},
      {"unlink lower", files,
       [](std::size_t i) {
         const std::string path = lower_file(Group::Unlink, i);
         check(::unlink(path.c_str()) == 0, path);
       }},
  };
}

void run_row(const Row& row) {
  if (row.before) {
    row.before();
  }
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < row.operations; ++i) {
    row.operation(i);
  }
  const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - begin;
  if (row.after) {
    row.after();
  }
  std::printf("%s\t%zu\t%lld\n", row.name.c_str(), row.operations,
              static_cast<long long>(took.count()));
}

void run(const std::string& dir, const std::vector<std::string>& wanted) {
  std::filesystem::current_path(dir);
  for (const Row& row : all_rows()) {
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), row.name) == wanted.end()) {
      continue;
    }
    try {
      run_row(row);
    } catch (const Refused& refused) {
      std::printf("%s\t0\t%s\n", row.name.c_str(), refused.why.c_str());
    }
    std::fflush(stdout);
  }
}

// Runs `operation(process, i)` for each i below `files` in each of `processes` at once.
void run_clients(const char* name, std::size_t processes, std::size_t files,
                 const std::function<void(std::size_t, std::size_t)>& operation) {
  int start[2];
  check(::pipe(start) == 0, "pipe");
  std::vector<pid_t> children;
  for (std::size_t process = 0; process < processes; ++process) {
    const pid_t child = ::fork();
    check(child >= 0, "fork");
    if (child == 0) {
      ::close(start[1]);
      char none = 0;
      // Nothing comes: the end of the pipe is the signal to all at once.
      if (::read(start[0], &none, 1) < 0) {
        ::_exit(1);
      }
      try {
        for (std::size_t i = 0; i < files; ++i) {
          operation(process, i);
        }
      } catch (const Refused&) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    children.push_back(child);
  }
  ::close(start[0]);
  const auto begin = std::chrono::steady_clock::now();
  ::close(start[1]);
  bool done = true;
  for (const pid_t child : children) {
    int status = 0;
    done = ::waitpid(child, &status, 0) == child && status == 0 && done;
  }
  const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - begin;
  if (!done) {
    throw Refused{std::string(name) + ": a client failed"};
  }
  std::printf("%s\t%zu\t%lld\n", name, processes * files, static_cast<long long>(took.count()));
  std::fflush(stdout);
}

void clients(const std::string& dir, std::size_t processes, std::size_t files) {
  std::filesystem::current_path(dir);
  const auto own = [](std::size_t process, std::size_t i) {
    return "c" + std::to_string(process) + "/f" + std::to_string(i);
  };
  run_clients("mkdir", processes, 1, [](std::size_t process, std::size_t) {
    check(::mkdir(("c" + std::to_string(process)).c_str(), 0755) == 0, "mkdir");
  });
  run_clients("create+write+close", processes, files,
              [&](std::size_t process, std::size_t i) { write_bytes(own(process, i), kBlock); });
  run_clients("chmod", processes, files, [&](std::size_t process, std::size_t i) {
    check(::chmod(own(process, i).c_str(), 0600) == 0, "chmod");
  });
  run_clients("lstat missing", processes, files, [&](std::size_t process, std::size_t i) {
    struct stat st {};
    check(::lstat((own(process, i) + "-none").c_str(), &st) != 0, "lstat");
  });
  run_clients("open+read+close", processes, files,
              [&](std::size_t process, std::size_t i) { read_whole(own(process, i)); });
  run_clients("unlink", processes, files, [&](std::size_t process, std::size_t i) {
    check(::unlink(own(process, i).c_str()) == 0, "unlink");
  });
}

void list_rows(const std::string& dir) {
  std::filesystem::current_path(dir);
  for (const Row& row : all_rows()) {
    std::puts(row.name.c_str());
  }
}

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value == 0) {
    std::fprintf(stderr, "bench-micro: '%.*s' is not a positive number\n",
                 static_cast<int>(text.size()), text.data());
    std::exit(2);
  }
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  std::size_t files = 1000;
  std::size_t wide = 5000;
  std::size_t processes = 1;
  std::uint64_t big = 64 << 20;
  std::vector<std::string> rows;
  for (std::size_t i = 2; i + 1 < arguments.size(); i += 2) {
    if (arguments[i] == "--files") {
      files = number(arguments[i + 1]);
    } else if (arguments[i] == "--wide") {
      wide = number(arguments[i + 1]);
    } else if (arguments[i] == "--processes") {
      processes = number(arguments[i + 1]);
    } else if (arguments[i] == "--big") {
      big = number(arguments[i + 1]);
    } else if (arguments[i] == "--row") {
      rows.push_back(arguments[i + 1]);
    }
  }
  const std::string command = arguments.size() >= 2 ? arguments[0] : "";
  try {
    if (command == "prepare") {
      prepare(arguments[1], files, wide, big);
    } else if (command == "run") {
      run(arguments[1], rows);
    } else if (command == "rows") {
      list_rows(arguments[1]);
    } else if (command == "wide") {
      make_wide(arguments[1], files);
    } else if (command == "deep") {
      make_deep(arguments[1], files);
    } else if (command == "clients") {
      clients(arguments[1], processes, files);
    } else {
      std::fputs("usage: bench-micro prepare|run|rows|wide|deep|clients DIR [OPTION VALUE]...\n",
                 stderr);
      return 2;
    }
  } catch (const Refused& refused) {
    std::fprintf(stderr, "bench-micro: %s\n", refused.why.c_str());
    return 1;
  }
  return 0;
}
