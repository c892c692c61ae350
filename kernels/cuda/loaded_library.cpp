#include "kernels/cuda/loaded_library.hpp"

#include <dlfcn.h>

#include <cstdlib>

namespace tessera::cuda {

void* open_library(const LibraryName& library) {
  const auto open = [](const std::string& path) { return ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); };
  if (const char* given = std::getenv(library.variable); given != nullptr && *given != '\0') {
    if (void* const handle = open(given)) return handle;
    const char* const reason = ::dlerror();
    throw LibraryMissing{std::string{library.name} + " not found: " + library.variable + " is " + given +
                         " (" + (reason != nullptr ? reason : "no reason given") + ")"};
  }
  for (const char* folder : {"", "/usr/local/cuda/lib64/"})
    for (const std::string& version : library.versions)
      if (void* const handle = open(std::string{folder} + library.file + version)) return handle;
  throw LibraryMissing{std::string{library.name} + " not found: put the folder of " + library.file +
                       library.versions.front() + " into LD_LIBRARY_PATH, or its path into " +
                       library.variable + " (" + library.comes_with + ")"};
}

void* symbol_of(void* library, const LibraryName& name, const char* symbol) {
  void* const found = ::dlsym(library, symbol);
  if (found == nullptr) throw std::runtime_error{std::string{name.file} + " has no " + symbol};
  return found;
}

}  // namespace tessera::cuda
