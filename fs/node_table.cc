#include "fs/node_table.h"

#include <xxhash.h>

#include <utility>

namespace layerfs {
namespace {

// A nodeid is a slot in the low half and its generation in the high half: found without
// hashing, never given out twice.
constexpr unsigned kGenerationShift = 32;
constexpr std::size_t kFirstBuckets = 1024;
// Names up to this long live in the node itself (libstdc++ small strings).
constexpr std::size_t kInlineName = 15;

std::size_t heap_bytes(const std::string& name) {
  return name.size() > kInlineName ? name.size() + 1 : 0;
}

}  // namespace

std::size_t NodeTable::KeyHash::operator()(const FileKey& key) const {
  const std::uint64_t words[3] = {key.device, key.ino, key.layer};
  return XXH3_64bits(words, sizeof(words));
}

std::size_t NodeTable::AliasHash::operator()(const AliasKey& key) const {
  return XXH3_64bits_withSeed(key.name.data(), key.name.size(), key.parent->id);
}

NodeTable::NodeTable() : buckets_(kFirstBuckets, nullptr) {
  generation_.push_back(0);
  used_ = 1;  // slot 0 is no node: nodeid 0 means "absent" to the kernel
  root_ = allocate();
  root_->lookups = 1;
  live_ = 1;
}

Node* NodeTable::slot(NodeId id) const {
  const auto index = static_cast<std::uint32_t>(id);
  if (index == 0 || index >= used_) {
    return nullptr;
  }
  Node& node = chunks_[index / kChunk][index % kChunk];
  return node.id == id ? &node : nullptr;
}

void NodeTable::for_each(const std::function<void(const Node&)>& visit) const {
  const std::lock_guard lock(mutex_);
  for (std::uint32_t index = 1; index < used_; ++index) {
    const Node& node = chunks_[index / kChunk][index % kChunk];
    if (node.id != 0 && node.lookups > 0) {
      visit(node);
    }
  }
}

Node* NodeTable::allocate() {
  std::uint32_t index = 0;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    index = used_++;
    generation_.push_back(0);
    if (index / kChunk >= chunks_.size()) {
      chunks_.push_back(std::make_unique<Node[]>(kChunk));
      if (grown_ && !grown_()) {
        grown_ = nullptr;
      }
    }
  }
  Node& node = chunks_[index / kChunk][index % kChunk];
  node.id = static_cast<NodeId>(generation_[index]) << kGenerationShift | index;
  return &node;
}

Node* NodeTable::get(NodeId id) const {
  const std::lock_guard lock(mutex_);
  return slot(id);
}

std::size_t NodeTable::bucket_of(const Node* parent, std::string_view name) const {
  return XXH3_64bits_withSeed(name.data(), name.size(), parent->id) & (buckets_.size() - 1);
}

Node* NodeTable::find_locked(const Node& parent, std::string_view name) const {
  for (Node* node = buckets_[bucket_of(&parent, name)]; node != nullptr;
       node = node->next_in_bucket) {
    if (node->parent == &parent && node->name == name) {
      return node;
    }
  }
  if (!aliases_.empty()) {
    const auto alias = aliases_.find(AliasKey{&parent, std::string(name)});
    if (alias != aliases_.end()) {
      return alias->second;
    }
  }
  return nullptr;
}

Node* NodeTable::find_and_ref(const Node& parent, std::string_view name) {
  const std::lock_guard lock(mutex_);
  Node* node = find_locked(parent, name);
  if (node != nullptr) {
    ++node->lookups;
  }
  return node;
}

Node* NodeTable::find(const Node& parent, std::string_view name) const {
  const std::lock_guard lock(mutex_);
  return find_locked(parent, name);
}

void NodeTable::insert_locked(Node& node) {
  grow_locked();
  Node*& head = buckets_[bucket_of(node.parent, node.name)];
  node.next_in_bucket = head;
  head = &node;
  ++node.parent->children;
  ++named_;
  name_bytes_ += heap_bytes(node.name);
}

void NodeTable::remove_locked(Node& node) {
  Node** link = &buckets_[bucket_of(node.parent, node.name)];
  while (*link != &node) {
    link = &(*link)->next_in_bucket;
  }
  *link = node.next_in_bucket;
  node.next_in_bucket = nullptr;
  --node.parent->children;
  --named_;
  name_bytes_ -= heap_bytes(node.name);
}

void NodeTable::grow_locked() {
  if (named_ < buckets_.size()) {
    return;
  }
  std::vector<Node*> old(buckets_.size() * 2, nullptr);
  old.swap(buckets_);
  for (Node* node : old) {
    while (node != nullptr) {
      Node* const next = node->next_in_bucket;
      Node*& head = buckets_[bucket_of(node->parent, node->name)];
      node->next_in_bucket = head;
      head = node;
      node = next;
    }
  }
}

Node* NodeTable::add(Node& parent, std::string_view name, Node&& node) {
  const std::lock_guard lock(mutex_);
  return add_locked(parent, name, std::move(node));
}

Node* NodeTable::add_file(const FileKey& key, Node& parent, std::string_view name, Node&& node) {
  const std::lock_guard lock(mutex_);
  if (files_.contains(key)) {
    return nullptr;
  }
  Node* added = add_locked(parent, name, std::move(node));
  if (files_.emplace(key, added).second) {
    keys_of_.emplace(added, key);
  }
  return added;
}

Node* NodeTable::add_locked(Node& parent, std::string_view name, Node&& node) {
  if (Node* known = find_locked(parent, name)) {
    ++known->lookups;
    return known;
  }
  Node* added = allocate();
  const NodeId id = added->id;
  *added = std::move(node);
  added->id = id;
  added->lookups = 1;
  added->children = 0;
  added->parent = &parent;
  added->name = name;
  insert_locked(*added);
  ++live_;
  return added;
}

Node* NodeTable::add_nameless(Node&& node) {
  const std::lock_guard lock(mutex_);
  Node* added = allocate();
  const NodeId id = added->id;
  *added = std::move(node);
  added->id = id;
  added->lookups = 1;
  added->parent = nullptr;
  ++live_;
  return added;
}

void NodeTable::ref(Node& node) {
  const std::lock_guard lock(mutex_);
  ++node.lookups;
}

void NodeTable::destroy_locked(Node* node, std::vector<Forgotten>& gone) {
  // Id 0: destroyed meanwhile, as an ancestor of one of its aliases' parents.
  while (node != root_ && node->id != 0 && node->lookups == 0 && node->children == 0) {
    Node* const parent = node->parent;
    if (parent != nullptr) {
      remove_locked(*node);
    }
    gone.push_back({node->id, node->layer,
                    node->place == Place::Parked ? node->extras().parked_name : std::string(),
                    node->is_dir()});
    std::vector<Node*> alias_parents;
    if (node->extra) {
      for (const Alias& alias : node->extra->aliases) {
        aliases_.erase(AliasKey{alias.parent, alias.name});
        --alias.parent->children;
        alias_parents.push_back(alias.parent);
      }
    }
    drop_files_locked(*node);
    const auto index = static_cast<std::uint32_t>(node->id);
    *node = Node{};
    ++generation_[index];
    free_.push_back(index);
    --live_;
    for (Node* alias_parent : alias_parents) {
      destroy_locked(alias_parent, gone);
    }
    if (parent == nullptr) {
      return;
    }
    node = parent;
  }
}

void NodeTable::forget(NodeId id, std::uint64_t count, std::vector<Forgotten>& gone) {
  const std::lock_guard lock(mutex_);
  Node* node = slot(id);
  if (node == nullptr || node == root_) {
    return;
  }
  node->lookups = count >= node->lookups ? 0 : node->lookups - count;
  destroy_locked(node, gone);
}

void NodeTable::move(Node& node, Node* parent, std::string_view name) {
  const std::lock_guard lock(mutex_);
  // The old parent outlives this: the kernel refers to it during the operation.
  if (node.parent != nullptr) {
    remove_locked(node);
  }
  node.parent = parent;
  node.name = name;
  if (parent != nullptr) {
    insert_locked(node);
  }
}

void NodeTable::swap(Node& a, Node& b) {
  const std::lock_guard lock(mutex_);
  remove_locked(a);
  remove_locked(b);
  std::swap(a.parent, b.parent);
  std::swap(a.name, b.name);
  insert_locked(a);
  insert_locked(b);
}

void NodeTable::add_alias(Node& node, Node& parent, std::string_view name) {
  const std::lock_guard lock(mutex_);
  if (node.parent == nullptr) {
    node.parent = &parent;
    node.name = name;
    insert_locked(node);
    return;
  }
  if (!aliases_.emplace(AliasKey{&parent, std::string(name)}, &node).second) {
    return;
  }
  node.extras().aliases.push_back({&parent, std::string(name)});
  ++parent.children;
}

bool NodeTable::drop_name(Node& node, const Node& parent, std::string_view name) {
  const std::lock_guard lock(mutex_);
  if (node.parent == &parent && node.name == name) {
    remove_locked(node);
    node.parent = nullptr;
    node.name.clear();
    if (!node.extra || node.extra->aliases.empty()) {
      return false;
    }
    Alias alias = std::move(node.extra->aliases.back());
    node.extra->aliases.pop_back();
    aliases_.erase(AliasKey{alias.parent, alias.name});
    --alias.parent->children;
    node.parent = alias.parent;
    node.name = std::move(alias.name);
    insert_locked(node);
    return true;
  }
  if (node.extra) {
    auto& aliases = node.extra->aliases;
    for (auto it = aliases.begin(); it != aliases.end(); ++it) {
      if (it->parent == &parent && it->name == name) {
        aliases_.erase(AliasKey{it->parent, it->name});
        --it->parent->children;
        aliases.erase(it);
        break;
      }
    }
  }
  return node.parent != nullptr;
}

Node* NodeTable::find_file_and_ref(const FileKey& key) {
  const std::lock_guard lock(mutex_);
  const auto it = files_.find(key);
  if (it == files_.end()) {
    return nullptr;
  }
  ++it->second->lookups;
  return it->second;
}

void NodeTable::set_file(const FileKey& key, Node& node) {
  const std::lock_guard lock(mutex_);
  if (files_.emplace(key, &node).second) {
    keys_of_.emplace(&node, key);
  }
}

void NodeTable::drop_files(const Node& node) {
  const std::lock_guard lock(mutex_);
  drop_files_locked(node);
}

void NodeTable::drop_files_locked(const Node& node) {
  const auto [first, last] = keys_of_.equal_range(&node);
  for (auto it = first; it != last; ++it) {
    files_.erase(it->second);
  }
  keys_of_.erase(first, last);
}

void NodeTable::on_growth(std::function<bool()> listener) {
  const std::lock_guard lock(mutex_);
  grown_ = std::move(listener);
}

NodeTable::Usage NodeTable::usage() const {
  const std::lock_guard lock(mutex_);
  return {live_,
          chunks_.size() * kChunk * sizeof(Node) + buckets_.size() * sizeof(void*) + name_bytes_};
}

}  // namespace layerfs
