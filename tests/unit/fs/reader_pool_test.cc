#include "fs/reader_pool.h"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <semaphore>
#include <thread>
#include <vector>

namespace layerfs {
namespace {

using namespace std::chrono_literals;

constexpr ReaderPool::Arrival kQuiet{1ms, 1, false};
constexpr unsigned kThreads = 4;

// Threads as a session has them; a request is one release of `requests`, and is served until
// `answers` is released for it.
class Service {
 public:
  explicit Service(ReaderPool::Arrival arrival) : arrival_(arrival), pool_(kThreads) {
    for (unsigned i = 0; i < kThreads; ++i) {
      threads_.emplace_back([this] { serve(); });
    }
  }
  ~Service() {
    over_ = true;
    pool_.close();
    requests_.release(kThreads);
    answers_.release(kThreads);
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  void request() { requests_.release(); }
  void answer(int n = 1) { answers_.release(n); }
  bool serving_becomes(unsigned n) {
    return becomes([this, n] { return serving_ == n; });
  }
  bool waiting_becomes(unsigned n) {
    return becomes([this, n] { return pool_.waiting() == n; });
  }
  unsigned most_waiting() const { return most_waiting_; }

 private:
  template <typename Condition>
  static bool becomes(Condition condition) {
    for (int i = 0; i < 5000; ++i) {
      if (condition()) {
        return true;
      }
      std::this_thread::sleep_for(1ms);
    }
    return false;
  }

  void serve() {
    while (pool_.begin_wait()) {
      most_waiting_ = std::max(most_waiting_.load(), pool_.waiting());
      requests_.acquire();
      if (over_) {
        return;
      }
      pool_.end_wait(arrival_);
      ++serving_;
      answers_.acquire();
      --serving_;
    }
  }

  const ReaderPool::Arrival arrival_;
  ReaderPool pool_;
  std::counting_semaphore<> requests_{0};
  std::counting_semaphore<> answers_{0};
  std::atomic<bool> over_{false};
  std::atomic<unsigned> serving_{0};
  std::atomic<unsigned> most_waiting_{0};
  std::vector<std::thread> threads_;
};

TEST_CASE("reader pool: of the threads of a connection at rest one waits") {
  Service service(kQuiet);
  REQUIRE(service.waiting_becomes(1));
  std::this_thread::sleep_for(50ms);
  CHECK(service.most_waiting() == 1);
}

TEST_CASE("reader pool: behind a request that takes its time, another thread waits") {
  Service service(kQuiet);
  for (unsigned n = 1; n <= kThreads; ++n) {
    service.request();
    REQUIRE(service.serving_becomes(n));
  }
  CHECK(service.waiting_becomes(0));
  service.answer();
  CHECK(service.serving_becomes(kThreads - 1));
  CHECK(service.waiting_becomes(1));
}

TEST_CASE("reader pool: a quiet connection is watched again from its next request on") {
  Service service(kQuiet);
  REQUIRE(service.waiting_becomes(1));
  std::this_thread::sleep_for(300ms);  // longer than the watcher stays awake
  service.request();
  REQUIRE(service.serving_becomes(1));
  CHECK(service.waiting_becomes(1));
}

TEST_CASE("reader pool: requests of several clients that queue get more threads that wait") {
  ReaderPool pool(2);
  std::atomic<bool> second{false};
  REQUIRE(pool.begin_wait());
  std::thread other([&] { second = pool.begin_wait(); });
  std::this_thread::sleep_for(20ms);
  REQUIRE_FALSE(second);
  for (std::uint32_t client = 1; client < 1000 && pool.waiting() < 2; ++client) {
    pool.end_wait({100ns, client, false});
    REQUIRE(pool.begin_wait());
  }
  other.join();
  CHECK(second);
}

TEST_CASE("reader pool: no more threads wait for requests that queue than it may have") {
  std::atomic<unsigned> started{0};
  const auto start = [&](auto&&...) {
    ++started;
    return false;
  };
  ReaderPool pool({2, 1}, 1, start);
  REQUIRE(pool.begin_wait());
  for (std::uint32_t client = 1; client < 1000; ++client) {
    pool.end_wait({100ns, client, false});
    REQUIRE(pool.begin_wait());
  }
  std::this_thread::sleep_for(20ms);
  CHECK(started == 0);
  CHECK(pool.waiting() == 1);
}

TEST_CASE("reader pool: a single client that is quick does not get more threads that wait") {
  ReaderPool pool(2);
  REQUIRE(pool.begin_wait());
  for (unsigned i = 0; i < 1000; ++i) {
    pool.end_wait({100ns, 1, false});
    REQUIRE(pool.begin_wait());
    REQUIRE(pool.waiting() == 1);
  }
}

TEST_CASE("reader pool: threads that nothing queues for any more are parked again") {
  ReaderPool pool(2);
  REQUIRE(pool.begin_wait());
  std::atomic<bool> over{false};
  std::thread other([&] {
    while (pool.begin_wait() && !over) {
      pool.end_wait({1ms, 1, false});
      std::this_thread::yield();
    }
  });
  for (std::uint32_t client = 1; client < 1000 && pool.waiting() < 2; ++client) {
    pool.end_wait({100ns, client, false});
    REQUIRE(pool.begin_wait());
  }
  for (int i = 0; i < 5000 && pool.waiting() != 1; ++i) {
    std::this_thread::sleep_for(1ms);
  }
  CHECK(pool.waiting() == 1);
  over = true;
  pool.close();
  other.join();
}

TEST_CASE("reader pool: before a slow request is served another thread waits") {
  ReaderPool pool(2);
  REQUIRE(pool.begin_wait());
  std::thread other([&] { CHECK(pool.begin_wait()); });
  std::this_thread::sleep_for(20ms);
  pool.end_wait({1ms, 1, true});
  CHECK(pool.waiting() == 1);
  other.join();
}

TEST_CASE("reader pool: the end of the connection ends parked threads") {
  ReaderPool pool(3);
  REQUIRE(pool.begin_wait());
  std::vector<std::thread> others;
  std::atomic<unsigned> ended{0};
  for (int i = 0; i < 2; ++i) {
    others.emplace_back([&] { ended += pool.begin_wait() ? 0 : 1; });
  }
  std::this_thread::sleep_for(20ms);
  pool.close();
  for (std::thread& other : others) {
    other.join();
  }
  CHECK(ended == 2);
}

TEST_CASE("reader pool: a thread that is not there yet is started when nobody waits, and no more") {
  std::atomic<unsigned> started{0};
  std::atomic<bool> can_start{false};
  std::counting_semaphore<> answers{0};
  std::vector<std::thread> threads;
  ReaderPool pool({2, 2}, 1, [&](ReaderPool& own) {
    if (can_start) {
      ++started;
      threads.emplace_back([&] {
        CHECK(own.begin_wait());
        answers.acquire();
      });
    }
    return can_start.load();
  });
  REQUIRE(pool.begin_wait());
  std::this_thread::sleep_for(20ms);
  CHECK(pool.waiting() == 1);
  pool.end_wait(kQuiet);  // and is long in serving it
  std::this_thread::sleep_for(20ms);
  CHECK(pool.waiting() == 0);
  can_start = true;  // what could not be had is asked for again
  for (int i = 0; i < 5000 && pool.waiting() != 1; ++i) {
    std::this_thread::sleep_for(1ms);
  }
  CHECK(pool.waiting() == 1);
  pool.expect_more();
  std::this_thread::sleep_for(20ms);
  CHECK(started == 1);
  answers.release();
  pool.end();
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace
}  // namespace layerfs
