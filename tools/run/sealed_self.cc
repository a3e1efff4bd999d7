#include "tools/run/sealed_self.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <limits.h>
#include <array>
#include <cerrno>
#include <cstdlib>

#include "layers/sys/syscalls.h"
#include "tools/common/daemon.h"
#include "tools/run/cannot.h"
#include "tools/run/mount_calls.h"

namespace layerfs::run {
namespace {

constexpr const char* kFolderVariable = "_LAYERFS_RUN_FOLDER";
constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

UniqueFd file_in_memory() {
  constexpr unsigned kExecutable = 0x10;  // MFD_EXEC, Linux 6.3
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  UniqueFd fd(::memfd_create("layerfs-run", kFlags | kExecutable));
  if (!fd && errno == EINVAL) {
    fd.reset(::memfd_create("layerfs-run", kFlags));
  }
  return fd;
}

bool is_sealed(int fd) {
  const int seals = ::fcntl(fd, F_GET_SEALS);  // -1: no file in memory at all
  return seals >= 0 && (seals & kSeals) == kSeals;
}

Outcome<std::string> own_folder() {
  std::array<char, PATH_MAX> path{};
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (size < 0) {
    return cannot("read /proc/self/exe");
  }
  const std::string text(path.data(), static_cast<std::size_t>(size));
  return text.substr(0, text.rfind('/'));
}

// Of a mount that is read-only in a namespace somebody might make it writable; of ours,
// which the variable tells of, nobody can.
bool is_on_read_only_mount(int fd) {
  struct statvfs st {};
  return std::getenv(kFolderVariable) != nullptr &&  // NOLINT(concurrency-mt-unsafe)
         ::fstatvfs(fd, &st) == 0 && (st.f_flag & ST_RDONLY) != 0;
}

Result<UniqueFd> read_only_mount_of_self() {
  LFS_ASSIGN(UniqueFd mount, clone_mounts(AT_FDCWD, "/proc/self/exe"));
  LFS_TRY(set_attributes(mount.get(), MOUNT_ATTR_RDONLY, /*recursive=*/false));
  return mount;
}

Outcome<UniqueFd> sealed_copy(int self) {
  UniqueFd copy = file_in_memory();
  struct stat st {};
  if (!copy || ::fstat(self, &st) < 0) {
    return cannot("copy the program");
  }
  for (off_t left = st.st_size; left > 0;) {
    const ssize_t count = ::sendfile(copy.get(), self, nullptr, static_cast<std::size_t>(left));
    if (count <= 0) {
      return cannot("copy the program");
    }
    left -= count;
  }
  if (::fcntl(copy.get(), F_ADD_SEALS, kSeals) < 0) {
    return cannot("seal the copy of the program");
  }
  return copy;
}

}  // namespace

Outcome<void> run_sealed(char** argv) {
  const auto self = sys::open_path("/proc/self/exe", O_RDONLY);
  if (!self) {
    return failed("cannot open /proc/self/exe: " + describe(self.error()));
  }
  if (is_sealed(self->get()) || is_on_read_only_mount(self->get())) {
    return {};
  }
  LFS_ASSIGN(const std::string folder, own_folder());
  ::setenv(kFolderVariable, folder.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
  if (const auto mount = read_only_mount_of_self()) {
    ::fexecve(mount->get(), argv, environ);
  }
  LFS_ASSIGN(const UniqueFd copy, sealed_copy(self->get()));
  ::fexecve(copy.get(), argv, environ);
  return cannot("run the sealed copy of the program");
}

Outcome<std::string> find_own_program(const std::string& name) {
  const char* folder = std::getenv(kFolderVariable);  // NOLINT(concurrency-mt-unsafe)
  return find_beside(name, folder == nullptr ? std::string() : folder);
}

}  // namespace layerfs::run
