#include "layers/layer_path.h"

#include <catch2/catch.hpp>

using namespace layerfs;

TEST_CASE("layer path: the default is the root, whose text is empty") {
  const LayerPath root;
  CHECK(root.is_root());
  CHECK(root.text().empty());
}

TEST_CASE("layer path: a child's text is its components, and its parent stays as it was") {
  const LayerPath a = LayerPath().child("a");
  const LayerPath b = a.child("bb");
  const LayerPath c = a.child(std::string(255, 'c'));
  CHECK_FALSE(a.is_root());
  CHECK(a.text() == "a");
  CHECK(b.text() == "a/bb");
  CHECK(c.text() == "a/" + std::string(255, 'c'));
}

TEST_CASE("layer path: ten thousand levels are text, copied and destroyed without harm") {
  LayerPath path;
  std::string expected;
  for (int i = 0; i < 10000; ++i) {
    path = path.child("d");
    expected += i == 0 ? "d" : "/d";
  }
  const LayerPath copy = path;
  path = LayerPath();
  CHECK(copy.text() == expected);
}
