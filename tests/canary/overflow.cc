// A signed overflow that UndefinedBehaviorSanitizer must end the process for.
#include <climits>

int main(int argc, char**) {
  volatile int big = INT_MAX;
  volatile int sum = big + argc;
  return sum == 0 ? 1 : 0;
}
