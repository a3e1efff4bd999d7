// nodeid -> Node, and (parent, name) -> Node. Owns the nodes by two counts that never
// mix: the kernel's lookups, and the children that need a parent for their path.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fs/node.h"

namespace layerfs {

// A hard link's inode, as stored.
struct FileKey {
  dev_t device;
  std::uint64_t ino;
  // Lower layers may overlap, so that one inode is two files; the writable layers share
  // the value kWritableKey.
  std::uint32_t layer;
  friend bool operator==(const FileKey&, const FileKey&) = default;
};
inline constexpr std::uint32_t kWritableKey = 0xffffffffU;

// Thread-safe; a leaf lock, no system call is made under it. Node pointers stay valid
// while the kernel has a lookup on the node or a child refers to it.
class NodeTable {
 public:
  NodeTable();

  Node& root() { return *root_; }
  // nullptr: an id that was never given out or is forgotten.
  Node* get(NodeId id) const;
  // Counts one lookup on the node found.
  Node* find_and_ref(const Node& parent, std::string_view name);
  // Without counting: the caller holds the tree lock exclusively and knows that the
  // kernel refers to the node, or does not keep the pointer.
  Node* find(const Node& parent, std::string_view name) const;
  // Adds `node` with one lookup under (parent, name), or finds one that another thread
  // added meanwhile, and counts a lookup on that.
  Node* add(Node& parent, std::string_view name, Node&& node);
  // A node without a name (O_TMPFILE), with one lookup.
  Node* add_nameless(Node&& node);
  void ref(Node& node);

  // A node that the kernel and every child let go: what is left of it on disk.
  struct Forgotten {
    NodeId id;
    LayerIndex layer;
    std::string parked_name;  // empty: nothing
    bool is_dir;
  };
  // Takes back `count` lookups; `gone` receives each node destroyed by that.
  void forget(NodeId id, std::uint64_t count, std::vector<Forgotten>& gone);

  // The node's own name changes; REQUIRES: tree lock exclusive.
  void move(Node& node, Node* parent, std::string_view name);
  void swap(Node& a, Node& b);
  void add_alias(Node& node, Node& parent, std::string_view name);
  // Forgets (parent, name) of the node, and takes another known name as its own.
  // False: no name is left.
  bool drop_name(Node& node, const Node& parent, std::string_view name);

  // Hard links: as add(), but unless the inode `key` is known under another name, which
  // is nullptr.
  Node* add_file(const FileKey& key, Node& parent, std::string_view name, Node&& node);
  Node* find_file_and_ref(const FileKey& key);
  void set_file(const FileKey& key, Node& node);
  // The node is another inode now, with one name.
  void drop_files(const Node& node);

  // Every node that is in use. `visit` must not call the table.
  void for_each(const std::function<void(const Node&)>& visit) const;

  // Called after more memory was taken for nodes, under the table's lock, until it says false.
  void on_growth(std::function<bool()> listener);

  struct Usage {
    std::uint64_t nodes;
    std::uint64_t bytes;
  };
  Usage usage() const;

 private:
  static constexpr std::size_t kChunk = 1024;

  struct KeyHash {
    std::size_t operator()(const FileKey& key) const;
  };
  struct AliasKey {
    const Node* parent;
    std::string name;
    friend bool operator==(const AliasKey&, const AliasKey&) = default;
  };
  struct AliasHash {
    std::size_t operator()(const AliasKey& key) const;
  };

  Node* slot(NodeId id) const;
  Node* allocate();
  Node* add_locked(Node& parent, std::string_view name, Node&& node);
  Node* find_locked(const Node& parent, std::string_view name) const;
  std::size_t bucket_of(const Node* parent, std::string_view name) const;
  void insert_locked(Node& node);
  void remove_locked(Node& node);
  void grow_locked();
  void drop_files_locked(const Node& node);
  void destroy_locked(Node* node, std::vector<Forgotten>& gone);

  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Node[]>> chunks_;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> generation_;
  std::uint32_t used_ = 0;
  std::vector<Node*> buckets_;
  std::size_t named_ = 0;
  std::size_t name_bytes_ = 0;
  std::size_t live_ = 0;
  std::function<bool()> grown_;
  std::unordered_map<AliasKey, Node*, AliasHash> aliases_;
  std::unordered_map<FileKey, Node*, KeyHash> files_;
  std::unordered_multimap<const Node*, FileKey> keys_of_;
  Node* root_;
};

}  // namespace layerfs
