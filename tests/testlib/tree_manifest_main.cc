// tree-manifest: see usage() below.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/testlib/tree_manifest.h"

namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;
constexpr std::size_t kDifferencesShown = 200;

constexpr std::string_view kUsage =
    R"(usage: tree-manifest [OPTION...] DIR
       tree-manifest [OPTION...] --diff EXPECTED ACTUAL

Prints one line for each entry of DIR, sorted by path: type, mode, owner, size
of non-directories, mtime, rdev, link count, hard-link group, symlink target,
extended attributes (hexadecimal), XXH3 of the content. Never crosses mounts.

  --no-dir-nlink         leave out the link counts of directories
  --no-mtimes            leave out all modification times
  --no-mtime PATH        ... those of PATH and of all below it
  --no-mtime-from FILE   ... those of the paths in FILE, one a line
  --exclude PATH         leave out PATH and all below it
  --exclude-from FILE    ... and the paths in FILE, one a line
  --no-xattr PREFIX      leave out extended attributes whose name begins so
  --no-content           do not read files
  --atime, --ctime       add times of access and change
  --ino                  add inode numbers
  --check-readdir        tell where readdir contradicts lstat
  --diff                 compare two directories instead

Exits 1 if something could not be read (named on the standard error) or, with
--diff, if the trees differ; 2 on wrong use.
)";

struct Arguments {
  layerfs::testlib::ManifestOptions options;
  bool diff = false;
  std::vector<std::string> directories;
};

[[noreturn]] void refuse(const std::string& message) {
  std::cerr << "tree-manifest: " << message << "; see tree-manifest --help\n";
  std::exit(kExitUsage);
}

std::string without_slashes(std::string path) {
  while (path.starts_with("/") || path.starts_with("./"))
    path.erase(0, path[0] == '/' ? 1 : 2);
  while (path.ends_with("/"))
    path.pop_back();
  return path.empty() ? "." : path;
}

void add_lines(const std::string& file, std::vector<std::string>& paths) {
  std::ifstream input(file);
  if (!input) refuse("cannot read " + file);
  for (std::string line; std::getline(input, line);)
    if (!line.empty() && line[0] != '#') paths.push_back(without_slashes(line));
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  layerfs::testlib::ManifestOptions& options = arguments.options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= argc) refuse(word + " needs a value");
      return argv[++i];
    };
    if (word == "--help" || word == "-h") {
      std::cout << kUsage;
      std::exit(0);
    } else if (word == "--no-dir-nlink") {
      options.directory_nlink = false;
    } else if (word == "--no-mtimes") {
      options.mtimes = false;
    } else if (word == "--no-mtime") {
      options.no_mtime_below.push_back(without_slashes(value()));
    } else if (word == "--no-mtime-from") {
      add_lines(value(), options.no_mtime_below);
    } else if (word == "--exclude") {
      options.exclude_below.push_back(without_slashes(value()));
    } else if (word == "--exclude-from") {
      add_lines(value(), options.exclude_below);
    } else if (word == "--no-xattr") {
      options.no_xattr_prefixes.push_back(value());
    } else if (word == "--no-content") {
      options.content = false;
    } else if (word == "--atime") {
      options.times_of_access = true;
    } else if (word == "--ctime") {
      options.times_of_change = true;
    } else if (word == "--ino") {
      options.inode_numbers = true;
    } else if (word == "--check-readdir") {
      options.check_directory_entries = true;
    } else if (word == "--diff") {
      arguments.diff = true;
    } else if (word.starts_with("-") && word != "-") {
      refuse("unknown option " + word);
    } else {
      arguments.directories.push_back(word);
    }
  }
  const std::size_t wanted = arguments.diff ? 2 : 1;
  if (arguments.directories.size() != wanted)
    refuse("expected " + std::to_string(wanted) + " directories, got " +
           std::to_string(arguments.directories.size()));
  return arguments;
}

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  const Arguments arguments = parse(argc, argv);
  using layerfs::testlib::Manifest;
  const Manifest manifest = scan_tree(arguments.directories[0], arguments.options);
  if (arguments.diff) {
    const Manifest actual = scan_tree(arguments.directories[1], arguments.options);
    const std::vector<std::string> differences =
        describe_differences(manifest, actual, arguments.options, kDifferencesShown);
    for (const std::string& line : differences)
      std::cout << line << '\n';
    return differences.empty() ? 0 : kExitFailure;
  }
  for (const auto& entry : manifest.entries)
    std::cout << format_entry(entry, arguments.options) << '\n';
  for (const std::string& error : manifest.errors)
    std::cerr << "tree-manifest: " << error << '\n';
  if (!std::cout.flush()) {
    std::cerr << "tree-manifest: cannot write the standard output: " << std::strerror(errno)
              << '\n';
    return kExitFailure;
  }
  return manifest.errors.empty() ? 0 : kExitFailure;
}
