// Compares the two sides. A difference has a kind, which stays the same while a
// reproduction is shrunk, and a detail for the reader.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

namespace layerfs::model {

struct Difference {
  std::string kind;
  std::string detail;
};
using Verdict = std::optional<Difference>;

struct CompareOptions {
  bool directory_nlink = true;
  bool inode_numbers = true;
  bool device_numbers = true;        // one st_dev for all
  bool listed_inode_numbers = true;  // d_ino == st_ino, that of ".." too
  // Kinds of difference that are passed over, to find what else there is.
  std::unordered_set<std::string> ignored;
  // Times that were set to "now" may differ by this; older ones must be equal.
  double now_tolerance = 2.0;
};

class Comparer {
 public:
  Comparer(int oracle, int mount, const CompareOptions& options);
  // The roots were opened again. `same_objects`: st_ino must be as before.
  void reattach(int oracle, int mount, bool same_objects);

  enum class Content { No, Yes };
  // One object by path; a path that neither side has is no difference.
  Verdict object(const std::string& path, Content content);
  // Names, types and inode numbers of a directory.
  Verdict listing(const std::string& path);
  // Holes that the mount reports must be zeros in the oracle.
  Verdict holes(const std::string& path);
  Verdict statfs(const std::string& path);
  // Two descriptors of one file; `readable`: also the content.
  Verdict handles(int oracle_fd, int mount_fd, bool readable);
  // Everything below and including `path`.
  Verdict tree(const std::string& path);

  // The object of the oracle is gone, or its st_ino in the mount may be another from now on.
  void forget(std::uint64_t oracle_ino);

 private:
  bool ignores(const char* kind) const { return options_.ignored.count(kind) != 0; }
  Verdict attributes(const std::string& what, const struct stat& oracle, const struct stat& mount);
  Verdict time_of_change(const std::string& what, const struct stat& oracle,
                         const struct stat& mount) const;
  Verdict inode(const std::string& what, std::uint64_t oracle, std::uint64_t mount);
  Verdict xattrs(const std::string& path);
  Verdict link_target(const std::string& path);
  Verdict file_content(const std::string& path);

  int oracle_;
  int mount_;
  CompareOptions options_;
  std::uint64_t device_ = 0;
  std::int64_t old_before_;  // times older than this were set explicitly
  std::unordered_map<std::uint64_t, std::uint64_t> to_mount_;
  std::unordered_map<std::uint64_t, std::uint64_t> to_oracle_;
};

}  // namespace layerfs::model
