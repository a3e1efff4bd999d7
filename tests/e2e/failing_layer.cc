// A layer whose storage fails: a directory shown again, where chosen calls answer EIO.
//
//   failing-layer DIRECTORY CONTROL MOUNTPOINT     in the background, until unmounted
//
// CONTROL is a file with the kinds that fail now: stat, list, xattr, open, read. Nothing is
// cached, so what it says holds at once.
#include <dirent.h>
#include <fcntl.h>
#include <fuse.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

namespace {

std::string directory;
std::string control;

bool fails(const char* kind) {
  std::ifstream file(control);
  std::string word;
  while (file >> word) {
    if (word == kind) {
      return true;
    }
  }
  return false;
}

std::string real(const char* path) { return directory + path; }

int answer(long result) { return result < 0 ? -errno : static_cast<int>(result); }

int on_getattr(const char* path, struct stat* st, fuse_file_info* /*fi*/) {
  return fails("stat") ? -EIO : answer(::lstat(real(path).c_str(), st));
}

int on_readlink(const char* path, char* target, std::size_t size) {
  const ssize_t length = ::readlink(real(path).c_str(), target, size - 1);
  if (length >= 0) {
    target[length] = '\0';
  }
  return length < 0 ? -errno : 0;
}

int on_opendir(const char* /*path*/, fuse_file_info* /*fi*/) { return fails("open") ? -EIO : 0; }

int on_readdir(const char* path, void* buffer, fuse_fill_dir_t fill, off_t /*offset*/,
               fuse_file_info* /*fi*/, fuse_readdir_flags /*flags*/) {
  if (fails("list")) {
    return -EIO;
  }
  DIR* const dir = ::opendir(real(path).c_str());
  if (dir == nullptr) {
    return -errno;
  }
  while (const dirent* const entry = ::readdir(dir)) {
    struct stat st {};
    st.st_ino = entry->d_ino;
    st.st_mode = static_cast<mode_t>(entry->d_type) << 12U;
    fill(buffer, entry->d_name, &st, 0, fuse_fill_dir_flags());
  }
  ::closedir(dir);
  return 0;
}

int on_open(const char* path, fuse_file_info* fi) {
  const int fd = fails("open") ? -1 : ::open(real(path).c_str(), O_RDONLY | O_CLOEXEC);
  fi->fh = static_cast<std::uint64_t>(fd);
  fi->direct_io = 0;
  return fails("open") ? -EIO : fd < 0 ? -errno : 0;
}

int on_read(const char* /*path*/, char* buffer, std::size_t size, off_t offset,
            fuse_file_info* fi) {
  return fails("read") ? -EIO : answer(::pread(static_cast<int>(fi->fh), buffer, size, offset));
}

int on_release(const char* /*path*/, fuse_file_info* fi) {
  ::close(static_cast<int>(fi->fh));
  return 0;
}

int on_getxattr(const char* path, const char* name, char* value, std::size_t size) {
  return fails("xattr") ? -EIO : answer(::lgetxattr(real(path).c_str(), name, value, size));
}

int on_listxattr(const char* path, char* list, std::size_t size) {
  return fails("xattr") ? -EIO : answer(::llistxattr(real(path).c_str(), list, size));
}

void* on_init(fuse_conn_info* /*conn*/, fuse_config* config) {
  config->use_ino = 1;
  config->entry_timeout = 0;
  config->negative_timeout = 0;
  config->attr_timeout = 0;
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    return 2;
  }
  directory = argv[1];
  control = argv[2];
  fuse_operations operations{};
  operations.getattr = on_getattr;
  operations.readlink = on_readlink;
  operations.opendir = on_opendir;
  operations.readdir = on_readdir;
  operations.open = on_open;
  operations.read = on_read;
  operations.release = on_release;
  operations.getxattr = on_getxattr;
  operations.listxattr = on_listxattr;
  operations.init = on_init;
  char allow[] = "-oallow_other,dev,suid,default_permissions";
  char* arguments[] = {argv[0], allow, argv[3], nullptr};
  return fuse_main(3, arguments, &operations, nullptr);
}
