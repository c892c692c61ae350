#pragma once
// What simulated kernels took, kept in a file from one run to the next.

#include <filesystem>
#include <map>
#include <string>

#include "sim/gpu/kernel_run.hpp"

namespace tessera::traces {

class KernelMemo {
 public:
  /// Reads `file`, if there is one. `machine`: a text that is equal only for equal machines and models of
  /// them; others' kernels stay in the file. Throws config::InputError naming file and line for what is no
  /// memo.
  KernelMemo(std::filesystem::path file, const std::string& machine);

  /// Latency, execution and its uncertainty, which is all that is kept; false if not known.
  bool find(const std::string& kernel, sim::KernelResult& result) const;
  void add(const std::string& kernel, const sim::KernelResult& result);
  /// Writes all to a temporary file and renames it. Throws std::runtime_error naming the file.
  void save() const;
  std::size_t found() const { return found_; }  ///< calls of find() that knew

 private:
  struct Kept {
    std::int64_t latency_fs = 0, execution_fs = 0;
    double ci95_percent = 0;
  };
  std::filesystem::path file_;
  std::string prefix_;
  std::map<std::string, Kept> kernels_;  // by machine and kernel
  mutable std::size_t found_ = 0;
};

}  // namespace tessera::traces
