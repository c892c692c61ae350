// What is said of cuBLASLt's choice.

#include "kernels/gemm/lt.hpp"

#include <catch2/catch_test_macros.hpp>

#ifdef TESSERA_HAS_CUDA
#include <cublasLt.h>
#endif

namespace tessera::cuda {

TEST_CASE("the tile, stages and cluster of an algorithm have the header's names") {
  CHECK(lt_name(LtChoice::tile, 1 << 20) == "(id 1048576)");
#ifdef TESSERA_HAS_CUDA
  CHECK(lt_name(LtChoice::tile, CUBLASLT_MATMUL_TILE_128x256) == "128x256");
  CHECK(lt_name(LtChoice::stages, CUBLASLT_MATMUL_STAGES_64xAUTO) == "64xAUTO");
  CHECK(lt_name(LtChoice::cluster, CUBLASLT_CLUSTER_SHAPE_2x1x1) == "2x1x1");
#endif
}

}  // namespace tessera::cuda
