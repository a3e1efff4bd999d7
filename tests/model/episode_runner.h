// Runs one episode: both trees, the mount, and what is known of open files and directories.
// Its parts: episode.cc the operations, episode_mounts.cc what is mounted when,
// episode_checks.cc what is compared after an operation.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "tests/model/dir_watch.h"
#include "tests/model/episode.h"
#include "tests/model/side.h"

namespace layerfs::model {

class Runner {
 public:
  Runner(const Episode& episode, const RunSettings& settings)
      : episode_(episode), settings_(settings), mounted_(settings.mount) {}
  ~Runner() { abandon(); }

  std::optional<Failure> run();

 private:
  struct SlotNote {
    std::string path;
    bool readable = false;
    bool writable = false;
  };

  Verdict set_up();
  Verdict mount_again(bool same_objects);
  Verdict take_down();
  Verdict check_lowers();
  void fresh_upper();
  void abandon();
  Verdict step(const Op& op);
  Verdict on_mount(const Op& op);
  Verdict remount();
  Verdict rotate();
  Verdict take_down_for_good();
  Verdict overlayfs_agrees();
  void give_every_link_a_name_above();
  void forget_caches();
  Verdict compare_all();
  Verdict after_path_op(const Op& op);
  Verdict after_slot_op(const Op& op);
  Verdict slot_content(std::int64_t slot, bool with_content);
  Verdict watch_directories(const Op& op, const Outcome& outcome);
  std::vector<std::uint64_t> about_to_die(const Op& op);
  void collect(const std::string& path, std::vector<std::uint64_t>& out);
  bool truncates_to_same_size(const Op& op);
  void settle_time(const Op& op);
  void allow_new_number(const std::string& path);
  void note_slot(const Op& op, const Outcome& outcome);
  std::vector<int> open_in_oracle() const;
  void forget_orphans();
  Verdict result_differs(const Op& op, const Outcome& expected, const Outcome& got);
  Outcome run_in_oracle(const Op& op);
  bool may_be_refused(const Op& op) const;
  bool result_may_differ(const Op& op);
  void log_op(const Op& op);

  std::string at(const std::string& name) const { return settings_.dir + "/" + name; }
  std::string oracle_root() const { return at("oracle/t"); }
  std::string mount_root() const { return at("side/t"); }

  const Episode& episode_;
  const RunSettings& settings_;
  MountedTree mounted_;
  MountDirs dirs_;
  bool is_mounted_ = false;
  int uppers_ = 0;
  int log_ = -1;
  Side oracle_;
  Side mount_;
  std::optional<Comparer> compare_;
  std::vector<std::map<std::string, std::string>> lower_state_;
  std::array<SlotNote, kFileSlots> slots_;
  std::array<DirWatch, kDirSlots> watches_;
  // Inode numbers of the oracle's objects that have or had several names in a lower layer.
  std::unordered_set<std::uint64_t> linked_below_;
  // Names that a layer hides are still counted, relative to an inode in that layer.
  bool counts_hidden_names_ = false;
  std::int64_t done_ = 0;
};

}  // namespace layerfs::model
