#include "kernels/experts/grouped_product.hpp"

#ifdef TESSERA_HAS_CUDA
#include <cublas_v2.h>
#include <fmt/format.h>

#include "kernels/cuda/loaded_library.hpp"
#else
#include <bit>
#endif

#include "kernels/experts/moe.hpp"

namespace tessera::cuda {

std::vector<ExpertRows> expert_rows(std::span<const std::int32_t> ids, std::int64_t experts) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(experts), 0);
  for (const std::int32_t id : ids) ++counts.at(static_cast<std::size_t>(id));
  std::vector<ExpertRows> groups;
  std::int64_t first = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::int64_t rows = counts[static_cast<std::size_t>(e)];
    if (rows > 0) groups.push_back({static_cast<std::int32_t>(e), first, rows});
    first += rows;
  }
  return groups;
}

GroupedArguments grouped_arguments(const std::vector<ExpertRows>& groups, std::int64_t width,
                                   std::int64_t depth) {
  GroupedArguments a;
  for (const ExpertRows& group : groups) {
    a.transpose_a.push_back(1);
    a.transpose_b.push_back(0);
    a.m.push_back(static_cast<int>(width));
    a.n.push_back(static_cast<int>(group.rows));
    a.k.push_back(static_cast<int>(depth));
    a.lda.push_back(static_cast<int>(depth));
    a.ldb.push_back(static_cast<int>(depth));
    a.ldc.push_back(static_cast<int>(width));
    a.products.push_back(1);
    a.alpha.push_back(1);
    a.beta.push_back(0);
  }
  return a;
}

GroupedProduct::GroupedProduct(std::vector<ExpertRows> groups, std::int64_t width, std::int64_t depth)
    : groups_{std::move(groups)},
      width_{width},
      depth_{depth},
      arguments_{grouped_arguments(groups_, width, depth)} {}

std::vector<std::int32_t> GroupedProduct::listed() const {
  std::vector<std::int32_t> list;
  for (const ExpertRows& group : groups_) list.push_back(group.expert);
  for (const ExpertRows& group : groups_) list.push_back(static_cast<std::int32_t>(group.first));
  return list;
}

void GroupedProduct::place(void* addresses, const std::int32_t* listed, const void* weights, const void* in,
                           void* out, Stream stream) const {
  launch_grouped_addresses({.groups = groups(),
                            .listed = listed,
                            .weights = weights,
                            .in = in,
                            .out = out,
                            .width = width_,
                            .depth = depth_,
                            .addresses = addresses},
                           stream);
}

#ifdef TESSERA_HAS_CUDA

namespace {

struct Library {
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  decltype(&cublasGetVersion_v2) version = nullptr;
  decltype(&cublasGemmGroupedBatchedEx) grouped = nullptr;
  cublasHandle_t handle = nullptr;
};

void require(cublasStatus_t status, const char* what) { require_success(status, what, "cuBLAS"); }

const Library& library() {
  static const Library loaded = [] {
    Library l;
    LoadedLibrary{
        toolkit_library("cuBLAS", "TESSERA_CUBLAS", "libcublas.so",
                        "from the CUDA Toolkit, and with PyTorch as nvidia/cu13/lib/libcublas.so.13")}
        .find("cublasCreate_v2", l.create)
        .find("cublasSetStream_v2", l.set_stream)
        .find("cublasSetWorkspace_v2", l.set_workspace)
        .find("cublasGetVersion_v2", l.version)
        .find("cublasGemmGroupedBatchedEx", l.grouped);
    require(l.create(&l.handle), "cublasCreate");
    return l;
  }();
  return loaded;
}

}  // namespace

void GroupedProduct::run(const void* addresses, void* workspace, Stream stream) const {
  const Library& cublas = library();
  // Setting the stream sets the workspace back: it comes second.
  require(cublas.set_stream(cublas.handle, static_cast<cudaStream_t>(stream)), "cublasSetStream");
  require(cublas.set_workspace(cublas.handle, workspace, static_cast<std::size_t>(kGroupedWorkspaceBytes)),
          "cublasSetWorkspace");
  // All arrays stay where they are for as long as this object: a graph that was captured may read them again.
  static_assert(sizeof(cublasOperation_t) == sizeof(int) && CUBLAS_OP_N == 0 && CUBLAS_OP_T == 1);
  const auto* const a = reinterpret_cast<const cublasOperation_t*>(arguments_.transpose_a.data());
  const auto* const b = reinterpret_cast<const cublasOperation_t*>(arguments_.transpose_b.data());
  auto* const* const at = static_cast<void* const*>(addresses);
  const std::int64_t n = groups();
  require(cublas.grouped(cublas.handle, a, b, arguments_.m.data(), arguments_.n.data(), arguments_.k.data(),
                         arguments_.alpha.data(), at, CUDA_R_16BF, arguments_.lda.data(), at + n, CUDA_R_16BF,
                         arguments_.ldb.data(), arguments_.beta.data(), at + 2 * n, CUDA_R_16BF,
                         arguments_.ldc.data(), static_cast<int>(n), arguments_.products.data(),
                         CUBLAS_COMPUTE_32F),
          "cublasGemmGroupedBatchedEx");
}

std::string cublas_version() {
  int version = 0;
  require(library().version(library().handle, &version), "cublasGetVersion");
  return fmt::format("cuBLAS {}", version);
}

#else

void GroupedProduct::run(const void* addresses, void*, Stream) const {
  const auto* const* const at = static_cast<const std::uint16_t* const*>(addresses);
  const auto value = [](std::uint16_t bits) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  };
  const std::size_t groups = groups_.size();
  for (std::size_t g = 0; g < groups; ++g) {
    const GroupedArguments& x = arguments_;
    const std::uint16_t *const a = at[g], *const b = at[groups + g];
    auto* const c = const_cast<std::uint16_t*>(at[2 * groups + g]);
    for (int column = 0; column < x.n[g]; ++column) {
      for (int row = 0; row < x.m[g]; ++row) {
        float sum = 0;
        for (int d = 0; d < x.k[g]; ++d)
          sum += value(x.transpose_a[g] != 0 ? a[std::int64_t{row} * x.lda[g] + d]
                                             : a[std::int64_t{d} * x.lda[g] + row]) *
                 value(x.transpose_b[g] != 0 ? b[std::int64_t{d} * x.ldb[g] + column]
                                             : b[std::int64_t{column} * x.ldb[g] + d]);
        const auto bits = std::bit_cast<std::uint32_t>(x.alpha[g] * sum);
        c[std::int64_t{column} * x.ldc[g] + row] =
            static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
      }
    }
  }
}

std::string cublas_version() { return "cuBLAS, by the host"; }

#endif

}  // namespace tessera::cuda
