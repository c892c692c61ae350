#pragma once
// Work on each token's row by itself: norms, rotation, activation, softmax, copies, table look-up.

#include <string>
#include <string_view>
#include <vector>

#include "models/operators/operand.hpp"

namespace tessera::models {

enum class NormKind { rms, layer };
/// Normalises each row; with `residual`, first adds a second input and also writes the sum.
struct Norm {
  std::int64_t rows = 0, width = 0;
  NormKind kind = NormKind::rms;
  bool residual = false;
  Dtype dtype = Dtype::bf16;
};

/// Rotates q and k in place.
struct Rope {
  std::int64_t rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
  Dtype dtype = Dtype::bf16;
};

enum class ActivationKind { swiglu, gelu };
/// swiglu: [rows, 2 width] -> [rows, width]; gelu: [rows, width] -> [rows, width].
struct Activation {
  std::int64_t rows = 0, width = 0;
  ActivationKind kind = ActivationKind::swiglu;
  Dtype dtype = Dtype::bf16;
};

/// Row softmax of an explicit score matrix.
struct Softmax {
  std::int64_t rows = 0, width = 0;
  Dtype dtype = Dtype::bf16;
};

/// Adds up `inputs` rows to `rows` rows: results of several branches or nodes, not as many for every row.
struct Sum {
  std::int64_t rows = 0, inputs = 0, width = 0;
  Dtype dtype = Dtype::bf16;
};

/// Device-to-device copy: `bytes` read and as many written.
struct Copy {
  std::int64_t bytes = 0;
};

/// Gathers rows of an embedding table.
struct Embedding {
  std::int64_t rows = 0, width = 0;
  Dtype dtype = Dtype::bf16;
};

std::string_view kind(const Norm& op);
std::string_view kind(const Rope& op);
std::string_view kind(const Activation& op);
std::string_view kind(const Softmax& op);
std::string_view kind(const Sum& op);
std::string_view kind(const Copy& op);
std::string_view kind(const Embedding& op);
double flops(const Norm& op);
double flops(const Rope& op);
double flops(const Activation& op);
double flops(const Softmax& op);
double flops(const Sum& op);
double flops(const Copy& op);
double flops(const Embedding& op);
std::vector<Operand> operands(const Norm& op);
std::vector<Operand> operands(const Rope& op);
std::vector<Operand> operands(const Activation& op);
std::vector<Operand> operands(const Softmax& op);
std::vector<Operand> operands(const Sum& op);
std::vector<Operand> operands(const Copy& op);
std::vector<Operand> operands(const Embedding& op);
std::string signature(const Norm& op);
std::string signature(const Rope& op);
std::string signature(const Activation& op);
std::string signature(const Softmax& op);
std::string signature(const Sum& op);
std::string signature(const Copy& op);
std::string signature(const Embedding& op);
void require_possible(const Norm& op);
void require_possible(const Rope& op);
void require_possible(const Activation& op);
void require_possible(const Softmax& op);
void require_possible(const Sum& op);
void require_possible(const Copy& op);
void require_possible(const Embedding& op);

}  // namespace tessera::models
