#pragma once
// Dense attention prefill through cuDNN's graph API, the library that users run: softmax(q k^T scale + mask)
// v as the operations that cuDNN recognises and fuses into one kernel.

#include <memory>
#include <string>

#include "kernels/cuda/cudnn.hpp"
#include "kernels/cuda/launch.hpp"

namespace tessera::cuda {

/// Row-major bf16: q and out [batch, seq, heads, head_dim], k and v [batch, seq, kv_heads, head_dim].
struct CudnnShape {
  std::int64_t batch = 1, seq = 0, heads = 1, kv_heads = 1, head_dim = 128;
  bool causal = true;
};
inline constexpr std::int64_t kCudnnWorkspaceBytes = std::int64_t{64} << 20;

/// Ids of what a run gives addresses for.
enum CudnnId : std::int64_t { kIdQ = 1, kIdK, kIdV, kIdOut, kIdScale, kIdFloor };

/// q, k, v and out as tensors, and the operations between them.
void add_attention(cudnn::Graph& graph, const CudnnShape& shape);

class CudnnAttention {
 public:
  /// Scores are scaled by 1 / sqrt(head_dim).
  explicit CudnnAttention(const CudnnShape& shape);
  ~CudnnAttention();
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;
  /// Plans at the first call; later calls with other addresses use the same plan. LibraryMissing;
  /// std::runtime_error: cuDNN refuses.
  void run(const void* q, const void* k, const void* v, void* out, void* workspace, Stream stream);
  /// The same with a library of the caller's.
  void run(const cudnn::Backend& backend, const void* q, const void* k, const void* v, void* out,
           void* workspace, Stream stream);
  /// "cuDNN 9.19.0, engine 5, ...": after a run.
  const std::string& algorithm() const { return algorithm_; }

 private:
  struct Planned;
  CudnnShape shape_;
  float scale_, floor_;
  std::unique_ptr<Planned> planned_;
  std::string algorithm_;
};

}  // namespace tessera::cuda
