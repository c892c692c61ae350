#include "kernels/attention_prefill/cudnn_attention.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <vector>

namespace tessera::cuda {

using namespace cudnn;

void add_attention(Graph& graph, const CudnnShape& s) {
  // cuDNN's order of dimensions is batch, head, row, column; where they lie in memory the strides say.
  const auto rows = [&](std::int64_t heads) {
    return TensorShape{{s.batch, heads, s.seq, s.head_dim},
                       {s.seq * heads * s.head_dim, s.head_dim, heads * s.head_dim, 1}};
  };
  const auto transposed = [](TensorShape shape) {
    std::swap(shape.sizes[2], shape.sizes[3]);
    std::swap(shape.strides[2], shape.strides[3]);
    return shape;
  };
  const TensorShape square{{s.batch, s.heads, s.seq, s.seq},
                           {s.heads * s.seq * s.seq, s.seq * s.seq, s.seq, 1}},
      column{{s.batch, s.heads, s.seq, 1}, {s.heads * s.seq, s.seq, 1, 1}};
  const auto scores = [&] { return graph.between(kFloat, square); };
  const auto of_rows = [&] { return graph.between(kFloat, column); };

  const Descriptor q = graph.tensor(kIdQ, kBfloat16, rows(s.heads)),
                   k = graph.tensor(kIdK, kBfloat16, transposed(rows(s.kv_heads))),
                   v = graph.tensor(kIdV, kBfloat16, rows(s.kv_heads)),
                   out = graph.tensor(kIdOut, kBfloat16, rows(s.heads));
  const Descriptor product = scores(), scaled = scores();
  graph.matmul(q, k, product);
  graph.pointwise(kMul, kFloat, product, graph.number(kIdScale), scaled);

  Descriptor masked = scaled;
  if (s.causal) {
    // Row and column index of every score; a row sees columns up to its own.
    const Descriptor row = graph.between(kInt32, square), key = graph.between(kInt32, square),
                     seen = graph.between(kBoolean, square);
    graph.index(2, scaled, row);
    graph.index(3, scaled, key);
    graph.pointwise(kGreaterEqual, kBoolean, row, key, seen);
    masked = scores();
    graph.pointwise(kSelect, kFloat, scaled, graph.number(kIdFloor), masked, seen);
  }

  const Descriptor max = of_rows(), below = scores(), exponential = scores(), sum = of_rows();
  graph.reduce(kReduceMax, masked, max);
  graph.pointwise(kSub, kFloat, masked, max, below);
  graph.pointwise(kExp, kFloat, below, nullptr, exponential);
  graph.reduce(kReduceAdd, exponential, sum);
  // The statistics that training would keep: part of the pattern that is recognised, written nowhere.
  const Descriptor log_sum = of_rows(), stats = of_rows();
  graph.pointwise(kLog, kFloat, sum, nullptr, log_sum);
  graph.pointwise(cudnn::kAdd, kFloat, max, log_sum, stats);
  const Descriptor weights = graph.between(kBfloat16, square);
  graph.pointwise(kDiv, kFloat, exponential, sum, weights);
  graph.matmul(weights, v, out);
}

struct CudnnAttention::Planned {
  explicit Planned(const Backend& backend) : handle{backend}, graph{backend} {}
  Handle handle;
  Graph graph;  // goes before the handle
  Plan plan;
};

CudnnAttention::CudnnAttention(const CudnnShape& shape)
    : shape_{shape},
      scale_{static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim)))},
      floor_{std::numeric_limits<float>::lowest()} {}
CudnnAttention::~CudnnAttention() = default;

void CudnnAttention::run(const void* q, const void* k, const void* v, void* out, void* workspace,
                         Stream stream) {
  run(loaded_backend(), q, k, v, out, workspace, stream);
}

void CudnnAttention::run(const Backend& backend, const void* q, const void* k, const void* v, void* out,
                         void* workspace, Stream stream) {
  if (!planned_) {
    auto planned = std::make_unique<Planned>(backend);
    add_attention(planned->graph, shape_);
    planned->plan = plan_of(planned->graph, {.handle = planned->handle.get()}, kCudnnWorkspaceBytes);
    const std::size_t version = backend.version();
    algorithm_ = fmt::format("cuDNN {}.{}.{}, {}, workspace {} bytes", version / 10000, version / 100 % 100,
                             version % 100, planned->plan.engine, planned->plan.workspace_bytes);
    planned_ = std::move(planned);
  }
  require(backend, backend.set_stream(planned_->handle.get(), stream), "cudnnSetStream");
  Descriptors pack{backend};
  const Descriptor at = pack.make(kVariantPack);
  // cuDNN takes addresses it only reads as plain ones, too.
  std::vector<std::int64_t> ids{kIdQ, kIdK, kIdV, kIdOut, kIdScale};
  std::vector<void*> addresses{const_cast<void*>(q), const_cast<void*>(k), const_cast<void*>(v), out,
                               &scale_};
  if (shape_.causal) {
    ids.push_back(kIdFloor);
    addresses.push_back(&floor_);
  }
  pack.set(at, kPackIds, kInt64Value, ids);
  pack.set(at, kPackPointers, kPointerValue, addresses);
  pack.set(at, kPackWorkspace, kPointerValue, workspace);
  pack.finalize(at, "variant pack");
  require(backend, backend.execute(planned_->handle.get(), planned_->plan.plan, at), "cudnnBackendExecute");
}

}  // namespace tessera::cuda
