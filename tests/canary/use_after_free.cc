// A use after free that AddressSanitizer must report.
#include <memory>

int main() {
  auto owner = std::make_unique<volatile int>(1);
  volatile int* borrowed = owner.get();
  owner.reset();
  return *borrowed == 2 ? 1 : 0;
}
