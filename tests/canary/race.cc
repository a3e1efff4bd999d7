// A data race that ThreadSanitizer must report.
#include <thread>

namespace {
int shared_count = 0;
}

int main() {
  std::thread other([] {
    for (int i = 0; i < 100000; ++i)
      shared_count = shared_count + 1;
  });
  for (int i = 0; i < 100000; ++i)
    shared_count = shared_count + 1;
  other.join();
  return 0;
}
