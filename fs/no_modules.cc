// The program without shared libraries has no dlopen(3). Only libfuse would call it, for modules
// of its high-level interface, and takes the answer for a module that is not installed.
extern "C" void* __wrap_dlopen(const char* file, int flags);  // NOLINT: the linker's name

extern "C" void* __wrap_dlopen(const char* /*file*/, int /*flags*/) { return nullptr; }  // NOLINT
