// A disk that remembers what was written to it, in order, and shows what a power cut at any
// moment could have left. It is a file on a FUSE file system of this process, for a loop device
// above it: a flush of that is an fsync of the file.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

struct fuse_session;

namespace layerfs::fault {

class Disk {
 public:
  static constexpr std::uint64_t kBytes = 512U << 20U;

  // Mounts at `dir`; throws std::runtime_error. Nothing is remembered yet.
  explicit Disk(std::string dir);
  ~Disk();
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  std::string path() const;
  // In a child of fork(2): it must not keep the device open, or who waits for the disk waits for
  // ever when the process that serves it is killed.
  void let_go() const;
  // What is there now is where each cut starts; `note` is called at each event after it, before
  // the file system above hears that it is done.
  void record(std::function<void()> note);
  void stop();
  // Writes and flushes.
  std::size_t events() const { return events_.size(); }

  // From now on shows what a cut after `count` events left: what was written before the last
  // flush, and by chance each page of the others. `count` never becomes less. What is written
  // afterwards is forgotten at the next cut.
  void cut(std::size_t count, std::mt19937_64& random);

  // For the file system.
  void read(std::uint64_t offset, std::uint64_t size, char* to);
  void write(std::uint64_t offset, const char* data, std::uint64_t size);
  void flush();

 private:
  static constexpr std::uint64_t kPage = 4096;
  using Page = std::array<char, kPage>;
  using Pages = std::unordered_map<std::uint64_t, std::unique_ptr<Page>>;
  struct Event {
    bool is_flush = false;
    std::uint64_t offset = 0;
    std::string data;
  };

  const Page* find(std::uint64_t page) const;
  void put(Pages& pages, std::uint64_t offset, const char* data, std::uint64_t size);

  std::string dir_;
  fuse_session* session_ = nullptr;
  std::thread thread_;

  std::mutex mutex_;
  Pages kept_;   // before the first event, then up to the last cut's last flush
  Pages fresh_;  // over it
  std::vector<Event> events_;
  std::size_t applied_ = 0;
  std::function<void()> note_;
};

}  // namespace layerfs::fault
