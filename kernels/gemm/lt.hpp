#pragma once
// Dense products through cuBLASLt, the library that users run. It is loaded when first needed, so that a
// carried program starts on a machine that has none.

#include <memory>
#include <string>

#include "kernels/cuda/launch.hpp"

namespace tessera::cuda {

/// c[b][m, n] = a[b][m, k] weights[b][n, k]^T, bf16 row-major, fp32 sums.
struct LtShape {
  std::int64_t batches = 1, m = 0, n = 0, k = 0;
};
inline constexpr std::int64_t kLtWorkspaceBytes = std::int64_t{32} << 20;

/// What the library's numbers stand for, by its header: "128x256". "(id 7)" of one that the header has not.
enum class LtChoice : std::uint8_t { tile, stages, cluster };
std::string lt_name(LtChoice choice, std::int64_t id);

class LtGemm {
 public:
  explicit LtGemm(const LtShape& shape);
  ~LtGemm();
  LtGemm(const LtGemm&) = delete;
  LtGemm& operator=(const LtGemm&) = delete;
  /// Takes the heuristic's first algorithm at the first call. LibraryMissing; std::runtime_error: it
  /// refuses.
  void run(const void* a, const void* weights, void* c, void* workspace, Stream stream);
  /// "cuBLASLt 130100 algorithm 66 tile 128x256 stages 64xAUTO cluster 2x1x1 split_k 1": after a run.
  const std::string& algorithm() const { return algorithm_; }

 private:
  struct Plan;
  LtShape shape_;
  std::unique_ptr<Plan> plan_;
  std::string algorithm_;
};

}  // namespace tessera::cuda
