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

/// A library of the CUDA Toolkit's: cuBLAS and cuBLASLt.
LibraryName toolkit_library(const char* name, const char* variable, const char* file, const char* comes_with);

/// An opened library; it stays until the process ends.
class LoadedLibrary {
 public:
  /// Looks in the variable's path, or else where the loader looks and in the CUDA Toolkit's folder.
  /// LibraryMissing names the variable; a path that is given and cannot be loaded is LibraryMissing too, with
  /// the loader's reason.
  explicit LoadedLibrary(LibraryName name);
  /// std::runtime_error if the library has no such function.
  template <class F>
  const LoadedLibrary& find(const char* symbol, F& function) const {
    function = reinterpret_cast<F>(address_of(symbol));
    return *this;
  }

 private:
  void* address_of(const char* symbol) const;
  LibraryName name_;
  void* handle_;
};

/// Of a call into a library, 0 being success: std::runtime_error, "cublasLtCreate: cuBLAS status 1", with
/// what the library says of it where it does.
void require_success(int status, const std::string& what, const char* library, const std::string& says = "");

}  // namespace tessera::cuda
