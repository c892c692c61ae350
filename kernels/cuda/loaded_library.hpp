#pragma once
// Libraries of the vendor's, loaded when first needed, so that a carried program starts on a machine that has
// none.

#include <stdexcept>
#include <string>
#include <vector>

namespace tessera::cuda {

/// The machine has no such library: nothing is wrong with what was to be measured.
class LibraryMissing : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct LibraryName {
  const char* name;                   ///< "cuDNN"
  const char* variable;               ///< the environment variable that may hold its path: "TESSERA_CUDNN"
  const char* file;                   ///< "libcudnn.so"
  std::vector<std::string> versions;  ///< ".9": what may follow the file's name, the best first
  const char* comes_with;             ///< where people get it
};

/// Looks in the variable's path, or else where the loader looks and in the CUDA Toolkit's folder.
/// LibraryMissing names the variable; a path that is given and cannot be loaded is LibraryMissing too, with
/// the loader's reason.
void* open_library(const LibraryName& library);

/// std::runtime_error if the library has no such function.
void* symbol_of(void* library, const LibraryName& name, const char* symbol);

template <class F>
void find_symbol(void* library, const LibraryName& name, const char* symbol, F& function) {
  function = reinterpret_cast<F>(symbol_of(library, name, symbol));
}

}  // namespace tessera::cuda
