// The script that nvcc runs under: what it makes of ptxas' words. A shell stands in for nvcc.

#include <sys/wait.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <string>

namespace tessera::cuda {

namespace {

/// The exit code of the script, its compiler having said `words` and ended with `code`.
int checked(const std::string& words, int code = 0) {
  const std::string command = std::string{TESSERA_SOURCE_DIR} +
                              "/kernels/cuda/nvcc_checked.sh sh -c 'echo \"" + words + "\" >&2; exit " +
                              std::to_string(code) + "' 2>/dev/null";
  return WEXITSTATUS(std::system(command.c_str()));
}

}  // namespace

TEST_CASE("a kernel that spills registers, or whose products are serialised, does not build") {
  CHECK(checked("    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 0);
  CHECK(checked("    8 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads") == 1);
  CHECK(checked("    120 bytes stack frame, 120 bytes spill stores, 0 bytes spill loads") == 1);
  const std::string library = "ptxas info    : Function properties for _ZN3cub17CUB_300_SM_100aE6kernel",
                    own = "ptxas info    : Function properties for _ZN7tessera4cuda6kernel",
                    spills = "    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads";
  CHECK(checked(library + "\n" + spills) == 0);
  CHECK(checked(library + "\n" + own + "\n" + spills) == 1);
  CHECK(checked("ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are "
                "serialized due to "
                "insufficient register resources") == 1);
  CHECK(checked("ptxas info    : (C7519) warpgroup.arrive is injected in around line 5369") == 0);
  CHECK(checked("error: no such thing", 2) == 2);
}

}  // namespace tessera::cuda
