// A filesystem that answers at once and keeps nothing: what a round trip alone costs.
//
//   bench-nullfs MOUNTPOINT     in the foreground, until unmounted
//
// Every name is a file, and nothing is cached: each lstat(2) of an entry of the root is one
// LOOKUP.
#include <fuse_lowlevel.h>
#include <sys/stat.h>

#include <cstdio>

namespace {

constexpr fuse_ino_t kFile = 2;

struct stat attributes_of(fuse_ino_t ino) {
  struct stat st {};
  st.st_ino = ino;
  st.st_mode = ino == kFile ? S_IFREG | 0644 : S_IFDIR | 0755;
  st.st_nlink = 1;
  return st;
}

void on_lookup(fuse_req_t req, fuse_ino_t /*parent*/, const char* /*name*/) {
  fuse_entry_param entry{};
  entry.ino = kFile;
  entry.attr = attributes_of(kFile);
  entry.attr_timeout = 1e9;
  fuse_reply_entry(req, &entry);
}

void on_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* /*fi*/) {
  const struct stat st = attributes_of(ino);
  fuse_reply_attr(req, &st, 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: bench-nullfs MOUNTPOINT\n", stderr);
    return 2;
  }
  fuse_lowlevel_ops operations{};
  operations.lookup = on_lookup;
  operations.getattr = on_getattr;
  char* words[] = {argv[0], nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, words);
  fuse_session* session = fuse_session_new(&args, &operations, sizeof operations, nullptr);
  if (session == nullptr || fuse_session_mount(session, argv[1]) != 0) {
    std::fprintf(stderr, "bench-nullfs: cannot mount at %s\n", argv[1]);
    return 1;
  }
  fuse_set_signal_handlers(session);
  const int result = fuse_session_loop(session);
  fuse_session_unmount(session);
  fuse_remove_signal_handlers(session);
  fuse_session_destroy(session);
  fuse_opt_free_args(&args);
  return result == 0 ? 0 : 1;
}
