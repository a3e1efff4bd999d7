// One request being served: timed, answered exactly once, nothing thrown past it.
#pragma once

#include <fuse_lowlevel.h>

#include <chrono>
#include <exception>
#include <new>

#include "fs/fuse_ops.h"

namespace layerfs {

// More than any kernel reads at once: max_pages of INIT, or 32 pages of 64 KiB
// (fs/fuse/fuse_i.h: FUSE_DEFAULT_MAX_PAGES_PER_REQ). A buffer is not made for more.
inline constexpr std::size_t kMaxReadBytes = std::size_t{2} << 20U;

// Room for a reply of `size` bytes, the calling thread's until it asks again. It has no content:
// the kernel asks for much more than small files and directories have to give.
char* reply_room(std::size_t size);

// What a handler returns: 0 if it has replied itself, else the errno to reply.
struct [[nodiscard]] Answer {
  int error = 0;
  Answer() = default;
  Answer(Errno e) : error(e.value()) {}
};

inline Answer answer(const Status& status, fuse_req_t req) {
  if (!status) {
    return status.error();
  }
  fuse_reply_err(req, 0);
  return {};
}

template <class Handler>
void serve(fuse_req_t req, Op op, Handler&& handler) {
  auto& context = *static_cast<FuseContext*>(fuse_req_userdata(req));
  const auto start = std::chrono::steady_clock::now();
  Answer answer;
  try {
    answer = handler(context);
  } catch (const std::bad_alloc&) {
    answer = Errno(ENOMEM);
  } catch (const std::exception&) {
    answer = Errno(EIO);
  }
  // Counted before the reply wakes the caller, who may look at the counters at once.
  context.statistics.record(op, std::chrono::steady_clock::now() - start, answer.error != 0);
  if (answer.error != 0) {
    fuse_reply_err(req, answer.error);
  }
}

inline Caller caller_of(fuse_req_t req) {
  const fuse_ctx* ctx = fuse_req_ctx(req);
  return {ctx->uid, ctx->gid, ctx->umask};
}

// What a request does not say is looked up of the calling thread when it is asked for;
// not to be kept beyond the request.
CallerRights rights_of(fuse_req_t req);

// The kernel's answer to a new entry: its lookup counts only if the reply was accepted.
fuse_entry_param entry_param(FuseContext& context, const NodeEntry& entry);
void reply_entry(FuseContext& context, fuse_req_t req, const NodeEntry& entry);
double attribute_timeout(FuseContext& context, NodeId node);

// Handlers of file data (fuse_data.cc) and of directories (fuse_directories.cc).
void add_data_operations(fuse_lowlevel_ops& ops);
void add_directory_operations(fuse_lowlevel_ops& ops);

}  // namespace layerfs
