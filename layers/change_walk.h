// What one merged tree has that another has not: the changes of an upper over its lowers,
// or between two stacks. Where both trees share their lower layers only directories that
// the layers above have are looked at, so the time follows the changes.
#pragma once

#include <functional>
#include <string>

#include "layers/merged_view.h"
#include "layers/object_compare.h"
#include "layers/sys/result.h"

namespace layerfs {

enum class ChangeKind { Added, Modified, Deleted };

struct Change {
  ChangeKind kind;
  const std::string& path;  // "a/b", from the root of the tree; "" for the root itself
  ChangedParts parts;       // Modified only
  // A directory of the new tree that replaces one of the old: it is not merged with it, and
  // all it has follows as added (ChangeOptions::opaque).
  bool replaces_directory = false;
  // Equal below, but a name of an object with another name that is among the changes.
  bool relinked = false;
  ViewObject* now = nullptr;          // null: Deleted
  const ViewEntry* before = nullptr;  // null: Added
};

struct ChangeOptions {
  // What is in an upper although it equals what is below is reported too.
  bool unchanged = false;
  // A directory that is not merged with the one below is reported as replacing it and not
  // compared with it.
  bool opaque = false;
  // Contents are always compared, so that ChangedParts::content is exact. Otherwise only
  // if nothing else tells whether the object differs.
  bool exact_content = false;
  // In each directory the deletions come first; otherwise all is in bytewise order.
  bool deletions_first = false;
  // What becomes of names that no layer above has, of an object that changed under another.
  enum class Links {
    // Those that differ from below, since the index shows them a changed copy.
    Changed,
    // All of them, and equal names in the upper too (Change::relinked), so that whoever
    // takes the changes elsewhere has all names of the object.
    Whole,
  };
  Links links = Links::Changed;
};

// Calls `visit` for each change: directories before what is in them, the entries of a
// directory in bytewise order of their names. A directory above a change is a change
// itself, Modified with no parts if nothing of its own differs; but the root is one only
// if it differs. Names of linked objects that come to light late come at the end, with
// the directories above them.
//
// An error of `visit` ends the walk and is returned; any failure to read is one. `changes`
// in error messages is the path in the merged tree.
using ChangeVisitor = std::function<Result<void, Failure>(const Change&)>;
Result<void, Failure> walk_changes(const MergedView& before, const MergedView& now,
                                   const ChangeOptions& options, const ChangeVisitor& visit);

}  // namespace layerfs
