// A file that appears under its name when it is complete, and not at all otherwise.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "layers/sys/unique_fd.h"
#include "tools/oci/byte_sink.h"

namespace layerfs::oci {

// Without a name until publish(), where the filesystem can do that (O_TMPFILE), so that
// even SIGKILL leaves nothing; elsewhere under a temporary name that the destructor removes.
class OutputFile : public ByteSink {
 public:
  // `dir`: an open directory that outlives this. `shown`: for messages.
  static Fallible<OutputFile> create(int dir, std::string shown);
  OutputFile(OutputFile&&) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile() override;

  Fallible<void> write(std::string_view bytes) override;
  // Over what was written before.
  Fallible<void> write_at(std::string_view bytes, std::uint64_t offset);
  // What is behind is gone; the next write is there.
  Fallible<void> cut(std::uint64_t size);
  std::uint64_t size() const { return size_; }

  enum class Sync { No, Yes };
  // Takes the place of what has that name in the directory. With Yes, it is on disk first.
  Fallible<void> publish(const std::string& name, Sync sync);

 private:
  OutputFile(int dir, std::string shown) : dir_(dir), shown_(std::move(shown)) {}
  Failure failure(Errno error) const;

  int dir_;
  std::string shown_;
  UniqueFd fd_;
  std::string temp_name_;  // "": none yet
  std::uint64_t size_ = 0;
};

// For what is being made, in the directory where it will be.
std::string temporary_name();

// Standard output.
class DescriptorSink : public ByteSink {
 public:
  DescriptorSink(int fd, std::string shown) : fd_(fd), shown_(std::move(shown)) {}
  Fallible<void> write(std::string_view bytes) override;

 private:
  int fd_;
  std::string shown_;
};

// The directory of `path` opened, and the name in it.
struct Target {
  UniqueFd dir;
  std::string name;
};
Fallible<Target> open_target(const std::string& path);

}  // namespace layerfs::oci
