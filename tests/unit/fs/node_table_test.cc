#include "fs/node_table.h"

#include <dirent.h>

#include <catch2/catch.hpp>
#include <set>
#include <string>

using namespace layerfs;

namespace {

Node file() {
  Node node;
  node.type = DT_REG;
  return node;
}

Node directory() {
  Node node;
  node.type = DT_DIR;
  node.dir = std::make_unique<DirState>();
  return node;
}

// Ids of the nodes that went.
std::set<NodeId> forget(NodeTable& table, NodeId id, std::uint64_t count = 1) {
  std::vector<NodeTable::Forgotten> gone;
  table.forget(id, count, gone);
  std::set<NodeId> ids;
  for (const auto& each : gone) {
    CHECK(ids.insert(each.id).second);
  }
  return ids;
}

}  // namespace

TEST_CASE("node table: the root is node 1 and is never forgotten") {
  NodeTable table;
  CHECK(table.root().id == kRootId);
  CHECK(table.get(kRootId) == &table.root());
  CHECK(forget(table, kRootId, 1000).empty());
  CHECK(table.get(kRootId) == &table.root());
  CHECK(table.usage().nodes == 1);
}

TEST_CASE("node table: an id that was not given out has no node, and forgetting it does nothing") {
  NodeTable table;
  for (const NodeId id : {NodeId{0}, NodeId{2}, NodeId{1023}, NodeId{1024}, NodeId{1} << 32U | 1U,
                          ~NodeId{0}, NodeId{0xffffffff}}) {
    CHECK(table.get(id) == nullptr);
    CHECK(forget(table, id).empty());
  }
}

TEST_CASE("node table: a slot used again has another id") {
  NodeTable table;
  std::set<NodeId> seen;
  for (int i = 0; i < 100; ++i) {
    const NodeId id = table.add(table.root(), "x", file())->id;
    CHECK(seen.insert(id).second);
    CHECK(forget(table, id) == std::set<NodeId>{id});
    CHECK(table.get(id) == nullptr);
  }
  CHECK(table.usage().nodes == 1);
}

TEST_CASE("node table: adding a name that is there finds it and counts a lookup") {
  NodeTable table;
  Node* const first = table.add(table.root(), "x", file());
  CHECK(table.add(table.root(), "x", file()) == first);
  CHECK(table.find_and_ref(table.root(), "x") == first);
  CHECK(table.find(table.root(), "x") == first);
  CHECK(forget(table, first->id, 2).empty());
  CHECK(forget(table, first->id, 1).size() == 1);
  CHECK(table.find(table.root(), "x") == nullptr);
}

TEST_CASE("node table: a child keeps its parents, and the last child lets them all go") {
  NodeTable table;
  Node* const a = table.add(table.root(), "a", directory());
  Node* const b = table.add(*a, "b", directory());
  Node* const c = table.add(*b, "c", file());
  const NodeId ids[3] = {a->id, b->id, c->id};
  CHECK(forget(table, ids[0]).empty());
  CHECK(forget(table, ids[1]).empty());
  CHECK(table.get(ids[0]) == a);
  CHECK(c->parent->parent == a);
  CHECK(forget(table, ids[2]) == std::set<NodeId>{ids[0], ids[1], ids[2]});
  CHECK(table.usage().nodes == 1);
}

TEST_CASE("node table: forgetting more lookups than were counted does not wrap around") {
  NodeTable table;
  const NodeId id = table.add(table.root(), "x", file())->id;
  CHECK(forget(table, id, ~std::uint64_t{0}) == std::set<NodeId>{id});
}

TEST_CASE("node table: many names in many directories are each found, also after it has grown") {
  NodeTable table;
  std::vector<Node*> dirs;
  for (int d = 0; d < 10; ++d) {
    dirs.push_back(table.add(table.root(), "d" + std::to_string(d), directory()));
    for (int i = 0; i < 500; ++i) {
      table.add(*dirs.back(), std::to_string(i), file())->ino =
          static_cast<std::uint64_t>(d * 1000 + i);
    }
  }
  CHECK(table.usage().nodes == 1 + 10 + 5000);
  for (int d = 0; d < 10; ++d) {
    for (int i = 0; i < 500; ++i) {
      const Node* const node = table.find(*dirs[static_cast<std::size_t>(d)], std::to_string(i));
      REQUIRE(node != nullptr);
      REQUIRE(node->ino == static_cast<std::uint64_t>(d * 1000 + i));
    }
  }
  // DESIGN: a node costs at most about 300 bytes.
  CHECK(table.usage().bytes / table.usage().nodes < 300);
}

TEST_CASE("node table: a moved node is found by its new name only, its children by theirs") {
  NodeTable table;
  Node* const a = table.add(table.root(), "a", directory());
  Node* const b = table.add(table.root(), "b", directory());
  Node* const child = table.add(*a, "child", file());
  table.move(*a, b, "a-moved-to-a-name-longer-than-fits-into-the-node");
  CHECK(table.find(table.root(), "a") == nullptr);
  CHECK(table.find(*b, "a-moved-to-a-name-longer-than-fits-into-the-node") == a);
  CHECK(table.find(*a, "child") == child);
  CHECK(b->children == 1);
  CHECK(table.root().children == 1);
  table.move(*a, nullptr, "");
  CHECK(b->children == 0);
  CHECK(table.get(a->id) == a);
}

TEST_CASE("node table: swapped nodes have each other's names, in the same or another directory") {
  NodeTable table;
  Node* const d = table.add(table.root(), "d", directory());
  Node* const a = table.add(table.root(), "a", file());
  Node* const b = table.add(*d, "b", file());
  table.swap(*a, *b);
  CHECK(table.find(table.root(), "a") == b);
  CHECK(table.find(*d, "b") == a);
  CHECK(a->parent == d);
  CHECK(b->parent == &table.root());
}

TEST_CASE("node table: a hard link is one node under all its names") {
  NodeTable table;
  const FileKey key{1, 2, 3};
  Node* const d = table.add(table.root(), "d", directory());
  Node* const a = table.add_file(key, table.root(), "a", file());
  REQUIRE(a != nullptr);
  // Known under another name: the caller must look at it under the exclusive lock.
  CHECK(table.add_file(key, *d, "b", file()) == nullptr);
  CHECK(table.find_file_and_ref(key) == a);
  table.add_alias(*a, *d, "b");
  CHECK(table.find(*d, "b") == a);
  CHECK(table.add_file({1, 2, 4}, *d, "c", file()) != a);
  CHECK(table.find_file_and_ref({9, 9, 9}) == nullptr);

  SECTION("its own name dropped, another becomes its own") {
    CHECK(table.drop_name(*a, table.root(), "a"));
    CHECK(a->parent == d);
    CHECK(a->name == "b");
    CHECK(table.find(table.root(), "a") == nullptr);
    CHECK(table.find(*d, "b") == a);
    CHECK_FALSE(table.drop_name(*a, *d, "b"));
    CHECK(a->parent == nullptr);
  }
  SECTION("a further name dropped, its own stays") {
    CHECK(table.drop_name(*a, *d, "b"));
    CHECK(table.find(*d, "b") == nullptr);
    CHECK(table.find(table.root(), "a") == a);
    CHECK_FALSE(table.drop_name(*a, table.root(), "a"));
  }
  SECTION("forgotten, all names and the inode are") {
    const NodeId id = a->id;
    CHECK(forget(table, id, 2) == std::set<NodeId>{id});
    CHECK(table.find(table.root(), "a") == nullptr);
    CHECK(table.find(*d, "b") == nullptr);
    CHECK(table.find_file_and_ref(key) == nullptr);
    CHECK(table.add_file(key, *d, "b", file()) != nullptr);
  }
}

TEST_CASE("node table: a directory that only an alias needs goes with the alias") {
  NodeTable table;
  Node* const d = table.add(table.root(), "d", directory());
  Node* const a = table.add(table.root(), "a", file());
  table.add_alias(*a, *d, "b");
  const NodeId ids[2] = {d->id, a->id};
  CHECK(forget(table, ids[0]).empty());
  CHECK(table.get(ids[0]) == d);
  CHECK(forget(table, ids[1]) == std::set<NodeId>{ids[0], ids[1]});
  CHECK(table.usage().nodes == 1);
}

TEST_CASE("node table: a nameless node takes its first name as its own") {
  NodeTable table;
  Node* const node = table.add_nameless(file());
  CHECK(node->parent == nullptr);
  CHECK(table.usage().nodes == 2);
  table.add_alias(*node, table.root(), "x");
  CHECK(node->parent == &table.root());
  CHECK(table.find(table.root(), "x") == node);
  CHECK(node->extra == nullptr);
}

TEST_CASE("node table: what is left of a forgotten node on disk is told") {
  NodeTable table;
  Node parked = file();
  parked.place = Place::Parked;
  parked.layer = 3;
  parked.extras().parked_name = "#left";
  const NodeId id = table.add_nameless(std::move(parked))->id;
  std::vector<NodeTable::Forgotten> gone;
  table.forget(id, 1, gone);
  REQUIRE(gone.size() == 1);
  CHECK(gone[0].parked_name == "#left");
  CHECK(gone[0].layer == 3);
  CHECK_FALSE(gone[0].is_dir);
}

TEST_CASE("node table: its growth is told once for many nodes, until the listener wants no more") {
  NodeTable table;
  int told = 0;
  table.on_growth([&] { return ++told < 2; });
  auto grow = [&, name = 0](int count) mutable {
    while (count-- > 0) {
      table.add(table.root(), std::to_string(++name), file());
    }
    return told;
  };
  CHECK(grow(1000) == 0);
  CHECK(grow(1000) == 1);
  CHECK(grow(1000) == 2);
  CHECK(grow(5000) == 2);
}
