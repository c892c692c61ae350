#include "kernels/cuda/loaded_library.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <utility>

namespace tessera::cuda {

namespace {

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

}  // namespace

LibraryName toolkit_library(const char* name, const char* variable, const char* file,
                            const char* comes_with) {
  return {.name = name,
          .variable = variable,
          .file = file,
          .versions = {".13", ".12", ""},
          .comes_with = comes_with};
}

LoadedLibrary::LoadedLibrary(LibraryName name) : name_{std::move(name)}, handle_{open_library(name_)} {}

void* LoadedLibrary::address_of(const char* symbol) const {
  void* const found = ::dlsym(handle_, symbol);
  if (found == nullptr) throw std::runtime_error{std::string{name_.file} + " has no " + symbol};
  return found;
}

void require_success(int status, const std::string& what, const char* library, const std::string& says) {
  if (status == 0) return;
  throw std::runtime_error{what + ": " + library + " status " + std::to_string(status) +
                           (says.empty() ? "" : ", " + says)};
}

}  // namespace tessera::cuda
