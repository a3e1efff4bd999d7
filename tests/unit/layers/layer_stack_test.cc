#include "layers/layer_stack.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/testlib/faults.h"
#include "tests/testlib/layer_dirs.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;
using Catch::Matchers::Contains;

namespace {

StackOptions options_of(const LayerDirs& dirs, std::size_t lowers = 1) {
  StackOptions options;
  for (std::size_t i = 0; i < lowers; ++i) {
    options.lowers.push_back(dirs.lower(i));
  }
  options.upper = dirs.upper();
  options.init = dirs.init();
  options.mountpoint = dirs.mountpoint();
  return options;
}

std::string refusal(const StackOptions& options) {
  const auto stack = LayerStack::open(options);
  REQUIRE_FALSE(stack.ok());
  const std::string message = stack.error().message;
  CHECK_THAT(message, !Contains("\n"));
  return message;
}

}  // namespace

TEST_CASE(
    "layer stack: upper, init and lowers are ordered from the top, with their roles and labels") {
  const LayerDirs dirs(3);
  const auto stack = LayerStack::open(options_of(dirs, 3));
  REQUIRE(stack);
  REQUIRE(stack->size() == 5);
  CHECK(stack->upper() == LayerIndex{0});
  CHECK(stack->init() == LayerIndex{1});
  CHECK(stack->first_lower() == 2);
  const char* const labels[] = {"upper", "init", "lower[0]", "lower[1]", "lower[2]"};
  const std::string paths[] = {dirs.upper(), dirs.init(), dirs.lower(0), dirs.lower(1),
                               dirs.lower(2)};
  for (LayerIndex i = 0; i < 5; ++i) {
    CAPTURE(i);
    CHECK(stack->label(i) == labels[i]);
    CHECK(stack->at(i).path == paths[i]);
    const auto st = sys::stat_at({stack->at(i).root.get()});
    REQUIRE(st);
    CHECK(st->stx_ino == stat_of(paths[i]).st_ino);
    CHECK(stack->at(i).override_form == OverrideForm::None);
  }
}

TEST_CASE("layer stack: without an upper or an init layer there is none") {
  const LayerDirs dirs;
  StackOptions options = options_of(dirs);
  options.upper.clear();
  options.init.clear();
  const auto stack = LayerStack::open(options);
  REQUIRE(stack);
  CHECK(stack->size() == 1);
  CHECK_FALSE(stack->upper());
  CHECK_FALSE(stack->init());
  CHECK(stack->first_lower() == 0);
}

TEST_CASE(
    "layer stack: a layer that is missing or no directory is refused, naming it and its role") {
  const LayerDirs dirs;
  const std::string bad = dirs.base() + GENERATE("/none", "/file");
  write_file(dirs.base() + "/file", "");
  StackOptions options = options_of(dirs);
  std::string role;
  SECTION("lower") {
    options.lowers.push_back(bad);
    role = "lower layer ";
  }
  SECTION("upper") {
    options.upper = bad;
    role = "upper directory ";
  }
  SECTION("init") {
    options.init = bad;
    role = "init layer ";
  }
  SECTION("mount point") {
    options.mountpoint = bad;
    role = "mount point ";
  }
  CHECK_THAT(refusal(options), Catch::StartsWith(role + bad + ": "));
}

TEST_CASE("layer stack: a layer that cannot be listed is refused, for it would show as empty") {
  const LayerDirs dirs;
  const auto failed = fail_each(
      Call::Open, EACCES, [&] { return LayerStack::open(options_of(dirs)); },
      [](const auto& stack) {
        // Only the second lock on the lowers, their clones, may be missing.
        if (!stack.ok()) {
          CHECK_THAT(stack.error().message, Contains("Permission denied"));
        }
      });
  CHECK(failed > 6);
  if (::geteuid() != 0) {
    REQUIRE(::chmod(dirs.lower().c_str(), 0300) == 0);
    CHECK_THAT(refusal(options_of(dirs)), Contains("Permission denied"));
    return;
  }
  const auto unlisted = [&] {
    REQUIRE(::chmod(dirs.lower().c_str(), 0300) == 0);
    REQUIRE(::chown(dirs.lower().c_str(), 65534, 65534) == 0);
    REQUIRE(::chmod(dirs.base().c_str(), 0755) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const bool user = ::setresuid(65534, 65534, 65534) == 0;
      StackOptions options = options_of(dirs);
      options.upper.clear();
      options.init.clear();
      ::_exit(user && !LayerStack::open(options).ok() ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return status == 0;
  };
  CHECK(unlisted());
}

TEST_CASE("layer stack: a failure to read a layer's root attributes is refused") {
  const LayerDirs dirs;
  for (const Call call : {Call::GetXattr, Call::Statx}) {
    CAPTURE(to_string(call));
    const auto failed = fail_each(
        call, EIO, [&] { return LayerStack::open(options_of(dirs)); },
        [](const auto& stack) {
          REQUIRE_FALSE(stack.ok());
          CHECK_THAT(stack.error().message, Contains("Input/output error"));
        });
    CHECK(failed > 2);
  }
}

TEST_CASE("layer stack: an upper or init layer in, around or equal to a lower is refused") {
  const LayerDirs dirs;
  make_dirs(dirs.lower() + "/in");
  make_dirs(dirs.base() + "/around/lower");
  StackOptions options = options_of(dirs);
  SECTION("inside") { options.upper = dirs.lower() + "/in"; }
  SECTION("equal") { options.upper = dirs.lower(); }
  SECTION("equal by another path") { options.upper = dirs.upper() + "/../l0"; }
  SECTION("around") {
    options.lowers = {dirs.base() + "/around/lower"};
    options.upper = dirs.base() + "/around";
  }
  SECTION("init inside") { options.init = dirs.lower() + "/in"; }
  SECTION("through a symlink") {
    REQUIRE(::symlink(dirs.lower().c_str(), (dirs.base() + "/link").c_str()) == 0);
    options.upper = dirs.base() + "/link/in";
  }
  CHECK_THAT(refusal(options), Contains("overlap"));
}

TEST_CASE("layer stack: a work directory in, around or equal to any layer is refused") {
  const LayerDirs dirs;
  make_dirs(dirs.base() + "/around/lower");
  StackOptions options = options_of(dirs);
  options.init = dirs.base() + "/i";
  const std::string layer = dirs.base() + GENERATE("/l0", "/u", "/i");
  make_dirs(layer + "/in");
  SECTION("equal") { options.works = {layer}; }
  SECTION("inside") { options.works = {layer + "/in"}; }
  SECTION("inside, not made yet") { options.works = {layer + "/none"}; }
  SECTION("inside, not made yet, with slashes") { options.works = {layer + "/in//none//"}; }
  SECTION("around") {
    options.lowers = {dirs.base() + "/around/lower"};
    options.works = {dirs.base() + "/around"};
  }
  CHECK_THAT(refusal(options), Contains("overlap"));
}

TEST_CASE("layer stack: a work directory beside the layers is allowed, made yet or not") {
  const LayerDirs dirs;
  make_dirs(dirs.base() + "/made");
  StackOptions options = options_of(dirs);
  options.works = {dirs.base() + GENERATE("/made", "/none", "/none/")};
  CHECK(LayerStack::open(options).ok());
}

TEST_CASE("layer stack: an init layer and an upper that overlap are refused") {
  const LayerDirs dirs;
  StackOptions options = options_of(dirs);
  make_dirs(options.upper + "/in");
  options.init = options.upper + GENERATE("", "/in", "/..");
  CHECK_THAT(refusal(options), Contains("overlap"));
}

TEST_CASE("layer stack: a mount point inside a work directory is refused") {
  const LayerDirs dirs;
  StackOptions options = options_of(dirs);
  make_dirs(dirs.base() + "/w/m");
  options.works = {dirs.base() + "/w"};
  options.mountpoint = dirs.base() + GENERATE("/w", "/w/m");
  CHECK_THAT(refusal(options), Contains("lies inside work directory"));
}

TEST_CASE("layer stack: one lower inside another, or given twice, is allowed") {
  const LayerDirs dirs(2);
  make_dirs(dirs.lower() + "/in");
  StackOptions options = options_of(dirs, 2);
  options.lowers.push_back(dirs.lower() + "/in");
  options.lowers.push_back(dirs.lower());
  CHECK(LayerStack::open(options).ok());
}

TEST_CASE("layer stack: a mount point inside any layer is refused") {
  const LayerDirs dirs;
  StackOptions options = options_of(dirs);
  const std::string layer = dirs.base() + GENERATE("/l0", "/u", "/i");
  SECTION("below it") {
    make_dirs(layer + "/a/m");
    options.mountpoint = layer + "/a/m";
  }
  SECTION("the layer itself") { options.mountpoint = layer; }
  CHECK_THAT(refusal(options), Contains("lies inside") && Contains(layer));
}

TEST_CASE("layer stack: a lower's descriptor does not let even root write to it") {
  if (::geteuid() != 0) {
    SKIP_TEST("needs root to clone mounts");
  }
  const LayerDirs dirs;
  write_file(dirs.lower() + "/f", "data");
  const auto stack = LayerStack::open(options_of(dirs));
  REQUIRE(stack);
  const int root = stack->at(stack->first_lower()).root.get();
  const auto writable = sys::open_beneath(root, "f", O_RDWR);
  REQUIRE_FALSE(writable);
  CHECK(writable.error() == Errno(EROFS));
  CHECK(sys::mkdir_at({root, "d"}, 0755).error() == Errno(EROFS));
  CHECK(sys::chmod_at({root, "f"}, 0600).error() == Errno(EROFS));
  CHECK(sys::open_beneath(stack->at(0).root.get(), "f", O_RDWR | O_CREAT, 0644).ok());
}

TEST_CASE("layer stack: layers whose root says so carry owners in attributes, or all if forced") {
  const LayerDirs dirs(2);
  const OverrideForm form =
      GENERATE(OverrideForm::Containers, OverrideForm::FuseOverlayfs, OverrideForm::Security);
  const UniqueFd lower(::open(dirs.lower(1).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(sys::set_xattr({lower.get()}, override_stat_xattr(form), "0:0:755").ok());
  StackOptions options = options_of(dirs, 2);
  auto stack = LayerStack::open(options);
  REQUIRE(stack);
  for (LayerIndex i = 0; i < 4; ++i) {
    CHECK(stack->at(i).override_form == (i == 3 ? form : OverrideForm::None));
  }
  options.forced_form = OverrideForm::Containers;
  stack = LayerStack::open(options);
  REQUIRE(stack);
  for (LayerIndex i = 0; i < 4; ++i) {
    CHECK(stack->at(i).override_form == (i == 3 ? form : OverrideForm::Containers));
  }
}

TEST_CASE("layer stack: more lowers than an index can number are refused") {
  const LayerDirs dirs;
  StackOptions options = options_of(dirs);
  options.lowers.assign(65534, dirs.lower());
  CHECK_THAT(refusal(options), Contains("too many lower layers"));
}

TEST_CASE("is_inside: a directory is inside itself and all above it, and in nothing else") {
  const LayerDirs dirs;
  make_dirs(dirs.lower() + "/a/b");
  const auto open = [](const std::string& path) {
    return UniqueFd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  };
  const UniqueFd b = open(dirs.lower() + "/a/b");
  const UniqueFd lower = open(dirs.lower());
  const UniqueFd upper = open(dirs.upper());
  const UniqueFd slash = open("/");
  const auto inside = [](const UniqueFd& a, const UniqueFd& of) {
    const auto result = is_inside(a.get(), of.get());
    REQUIRE(result);
    return *result;
  };
  CHECK(inside(b, b));
  CHECK(inside(b, lower));
  CHECK(inside(b, slash));
  CHECK_FALSE(inside(lower, b));
  CHECK_FALSE(inside(b, upper));
  CHECK(inside(slash, slash));
  CHECK_FALSE(inside(slash, b));
}
