#include "tests/posix/ground.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include "tests/testlib/files.h"
#include "tests/testlib/test_mount.h"

namespace layerfs::testing::posix {
namespace {

void must(long result, const std::string& what) {
  if (result < 0) {
    throw_errno(what);
  }
}

Stage read_stage() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing sets the environment
  const char* text = std::getenv("LAYERFS_POSIX_ON");
  std::istringstream words(text == nullptr ? "cached" : text);
  Stage stage;
  words >> stage.filesystem;
  for (std::string word; words >> word;) {
    stage.in_lower |= word == "lower";
    stage.in_user_namespace |= word == "userns";
  }
  return stage;
}

void write_map(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const std::string map = "0 100000 65536";
  must(fd, path);
  must(::write(fd, map.data(), map.size()), path);
  ::close(fd);
}

// A process that stays outside gives the new namespace all the ids that a container has.
void enter_user_namespace() {
  int entered[2];
  must(::pipe2(entered, O_CLOEXEC), "pipe");
  const pid_t inside = ::getpid();
  const pid_t outside = ::fork();
  must(outside, "fork");
  if (outside == 0) {
    char byte = 0;
    ::close(entered[1]);
    if (::read(entered[0], &byte, 1) != 1) {
      ::_exit(1);
    }
    write_map("/proc/" + std::to_string(inside) + "/uid_map");
    write_map("/proc/" + std::to_string(inside) + "/gid_map");
    ::_exit(0);
  }
  must(::unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare");
  must(::write(entered[1], "", 1), "pipe");
  int status = 0;
  must(::waitpid(outside, &status, 0), "waitpid");
  if (status != 0) {
    throw std::runtime_error("the user namespace got no ids");
  }
  must(::setresgid(0, 0, 0), "setresgid");
  must(::setresuid(0, 0, 0), "setresuid");
  must(::setgroups(0, nullptr), "setgroups");
}

}  // namespace

const Stage& stage() {
  static const Stage here = [] {
    ::umask(022);
    Stage read = read_stage();
    if (read.in_user_namespace) {
      enter_user_namespace();
    }
    return read;
  }();
  return here;
}

// The filesystem under test over a lower that `make` filled.
class Mounted {
 public:
  explicit Mounted(const std::function<void()>& make) {
    // Others have to reach the mount by its absolute path.
    must(::chmod(layers_.base().c_str(), 0755), layers_.base());
    must(::chdir(layers_.lower().c_str()), layers_.lower());
    make();
    if (stage().filesystem == "overlay") {
      mount_overlay();
    } else if (stage().filesystem != "plain") {
      layers_.mount("--io " + stage().filesystem);
    }
  }
  ~Mounted() {
    if (stage().filesystem == "overlay") {
      ::umount2(top().c_str(), MNT_DETACH);
    }
  }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;

  std::string top() const { return layers_.at(""); }

 private:
  void mount_overlay() const {
    const std::string work = layers_.base() + "/w";
    make_dirs(work);
    const std::string options = "redirect_dir=on,index=on,metacopy=on,lowerdir=" + layers_.lower() +
                                ",upperdir=" + layers_.upper() + ",workdir=" + work;
    must(::mount("overlay", top().c_str(), "overlay", 0, options.c_str()), options);
  }

  TestMount layers_;
};

namespace {

// A directory of the mount that all tests share.
void enter_shared(const std::function<void()>& make) {
  static const Mounted shared([] {});
  static int number = 0;
  const std::string dir = shared.top() + std::to_string(number++);
  must(::mkdir(dir.c_str(), 0755), dir);
  must(::chdir(dir.c_str()), dir);
  make();
}

}  // namespace

Ground::Ground(const std::function<void()>& make) {
  if (!stage().in_lower) {
    enter_shared(make);
    return;
  }
  // Not the root of the mount: its attributes are those of the upper's own root.
  const std::string dir = "ground";
  own_ = std::make_unique<Mounted>([&] {
    must(::mkdir(dir.c_str(), 0755), dir);
    must(::chdir(dir.c_str()), dir);
    make();
  });
  must(::chdir((own_->top() + dir).c_str()), dir);
}

Ground::~Ground() {
  if (::chdir("/") < 0) {
    std::abort();
  }
}

long by(const User& user, const std::function<long()>& call) {
  must(::setgroups(user.groups.size(), user.groups.data()), "setgroups");
  must(::setresgid(user.gid, user.gid, 0), "setresgid");
  must(::setresuid(user.uid, user.uid, 0), "setresuid");
  const long result = call();
  const int error = errno;
  must(::setresuid(0, 0, 0), "setresuid");
  must(::setresgid(0, 0, 0), "setresgid");
  must(::setgroups(0, nullptr), "setgroups");
  errno = error;
  return result;
}

}  // namespace layerfs::testing::posix
