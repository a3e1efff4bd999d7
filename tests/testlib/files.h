// Files by absolute path, for tests: each throws std::system_error with the path on failure.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

namespace layerfs::testing {

[[noreturn]] void throw_errno(const std::string& what);

void write_file(const std::string& path, const std::string& content);
std::string read_file(const std::string& path);
void make_dirs(const std::string& path);
struct stat stat_of(const std::string& path);               // lstat
bool exists(const std::string& path);                       // a failure but ENOENT throws
std::vector<std::string> names_in(const std::string& dir);  // sorted, without . and ..

// Where temporary files are quickest: in memory, where what is there takes user attributes.
std::string quick_parent();

// A fresh directory in `parent`.
std::string make_temp_dir(const std::string& parent);

// A fresh directory with all that comes to be in it, removed at the end of scope.
class TempDir {
 public:
  // On /var/tmp: a disk filesystem, as a rule.
  TempDir() : TempDir("/var/tmp") {}
  explicit TempDir(const std::string& parent) : path_(make_temp_dir(parent)) {}
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string at(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace layerfs::testing
