#include "kernels/gemm/lt.hpp"

#include <stdexcept>

#ifdef TESSERA_HAS_CUDA

#include <cublasLt.h>
#include <fmt/format.h>

#include "kernels/cuda/loaded_library.hpp"

namespace tessera::cuda {

namespace {

/// The functions that are used, out of the library that the machine has.
struct Library {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmulAlgoConfigGetAttribute) config_get = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtGetVersion) version = nullptr;
  cublasLtHandle_t handle = nullptr;
};

void require(cublasStatus_t status, const char* what) { require_success(status, what, "cuBLAS"); }

const Library& library() {
  static const Library loaded = [] {
    Library l;
    LoadedLibrary{
        toolkit_library("cuBLASLt", "TESSERA_CUBLASLT", "libcublasLt.so",
                        "from the CUDA Toolkit, and with PyTorch as nvidia/cu13/lib/libcublasLt.so.13")}
        .find("cublasLtCreate", l.create)
        .find("cublasLtMatmulDescCreate", l.desc_create)
        .find("cublasLtMatmulDescSetAttribute", l.desc_set)
        .find("cublasLtMatrixLayoutCreate", l.layout_create)
        .find("cublasLtMatrixLayoutSetAttribute", l.layout_set)
        .find("cublasLtMatmulPreferenceCreate", l.preference_create)
        .find("cublasLtMatmulPreferenceSetAttribute", l.preference_set)
        .find("cublasLtMatmulAlgoGetHeuristic", l.heuristic)
        .find("cublasLtMatmulAlgoConfigGetAttribute", l.config_get)
        .find("cublasLtMatmul", l.matmul)
        .find("cublasLtGetVersion", l.version);
    require(l.create(&l.handle), "cublasLtCreate");
    return l;
  }();
  return loaded;
}

struct LtName {
  LtChoice choice;
  std::int64_t id;
  const char* name;
};
/// Out of cublasLt.h, by kernels/CMakeLists.txt.
constexpr LtName kNames[] = {
#include "cublaslt_names.inc"
};

}  // namespace

std::string lt_name(LtChoice choice, std::int64_t id) {
  for (const LtName& n : kNames)
    if (n.choice == choice && n.id == id) return n.name;
  return fmt::format("(id {})", id);
}

struct LtGemm::Plan {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

LtGemm::LtGemm(const LtShape& shape) : shape_{shape} {}
LtGemm::~LtGemm() = default;

void LtGemm::run(const void* a, const void* weights, void* c, void* workspace, Stream stream) {
  const Library& lt = library();
  if (!plan_) {
    auto plan = std::make_unique<Plan>();
    // Column-major, as the library has it: C^T [n, m] = W [n, k] A^T; row-major W is its transpose.
    require(lt.desc_create(&plan->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    const cublasOperation_t transposed = CUBLAS_OP_T, plain = CUBLAS_OP_N;
    require(lt.desc_set(plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), "TRANSA");
    require(lt.desc_set(plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, &plain, sizeof plain), "TRANSB");
    const auto layout = [&](cublasLtMatrixLayout_t& l, std::int64_t rows, std::int64_t columns) {
      require(lt.layout_create(&l, CUDA_R_16BF, static_cast<std::uint64_t>(rows),
                               static_cast<std::uint64_t>(columns), rows),
              "cublasLtMatrixLayoutCreate");
      if (shape_.batches == 1) return;
      const auto batches = static_cast<std::int32_t>(shape_.batches);
      const std::int64_t step = rows * columns;
      require(lt.layout_set(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batches, sizeof batches), "BATCH_COUNT");
      require(lt.layout_set(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step),
              "BATCH_OFFSET");
    };
    layout(plan->a, shape_.k, shape_.n);
    layout(plan->b, shape_.k, shape_.m);
    layout(plan->c, shape_.n, shape_.m);
    cublasLtMatmulPreference_t preference = nullptr;
    require(lt.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
    const auto bytes = static_cast<std::size_t>(kLtWorkspaceBytes);
    require(lt.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes),
            "WORKSPACE");
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    require(
        lt.heuristic(lt.handle, plan->desc, plan->a, plan->b, plan->c, plan->c, preference, 1, &best, &found),
        "cublasLtMatmulAlgoGetHeuristic");
    if (found == 0) throw std::runtime_error{"cuBLASLt has no algorithm for this shape"};
    plan->algorithm = best.algo;
    // An attribute is told only into memory of its own size.
    const auto get = [&]<class T>(cublasLtMatmulAlgoConfigAttributes_t which, T value) {
      std::size_t written = 0;
      const auto status = lt.config_get(&plan->algorithm, which, &value, sizeof value, &written);
      return status == CUBLAS_STATUS_SUCCESS ? static_cast<std::int64_t>(value) : -1;
    };
    algorithm_ =
        fmt::format("cuBLASLt {} algorithm {} tile {} stages {} cluster {} split_k {}", lt.version(),
                    get(CUBLASLT_ALGO_CONFIG_ID, std::int32_t{}),
                    lt_name(LtChoice::tile, get(CUBLASLT_ALGO_CONFIG_TILE_ID, std::uint32_t{})),
                    lt_name(LtChoice::stages, get(CUBLASLT_ALGO_CONFIG_STAGES_ID, std::uint32_t{})),
                    lt_name(LtChoice::cluster, get(CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, std::uint16_t{})),
                    get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, std::int32_t{}));
    plan_ = std::move(plan);
  }
  const float one = 1, zero = 0;
  require(lt.matmul(lt.handle, plan_->desc, &one, weights, plan_->a, a, plan_->b, &zero, c, plan_->c, c,
                    plan_->c, &plan_->algorithm, workspace, static_cast<std::size_t>(kLtWorkspaceBytes),
                    static_cast<cudaStream_t>(stream)),
          "cublasLtMatmul");
}

}  // namespace tessera::cuda

#else

namespace tessera::cuda {

std::string lt_name(LtChoice, std::int64_t id) { return "(id " + std::to_string(id) + ")"; }
struct LtGemm::Plan {};
LtGemm::LtGemm(const LtShape& shape) : shape_{shape} {}
LtGemm::~LtGemm() = default;
void LtGemm::run(const void*, const void*, void*, void*, Stream) {
  throw std::runtime_error{"this build has no cuBLASLt"};
}

}  // namespace tessera::cuda

#endif
