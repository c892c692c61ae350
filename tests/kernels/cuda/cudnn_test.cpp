// cuDNN's graph of attention: computed by an interpreter that stands in for the library, and given to the
// library itself where there is one (its descriptors need no GPU).

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>

#include "kernels/attention_prefill/cudnn_attention.hpp"
#include "kernels/cuda/loaded_library.hpp"

#if __has_include(<cudnn_graph.h>)
#include <cudnn_graph.h>
#endif

namespace tessera::cuda::cudnn {

namespace {

constexpr Status kBadParameter = 2000, kNotSupported = 3000;

/// One descriptor: its attributes' bytes.
struct Recorded {
  DescriptorType type{};
  bool finalized = false;
  std::map<int, std::vector<unsigned char>> attributes = {};
  template <class T>
  std::vector<T> all(Attribute attribute) const {
    const auto at = attributes.find(attribute);
    if (at == attributes.end()) return {};
    std::vector<T> values(at->second.size() / sizeof(T));
    std::memcpy(values.data(), at->second.data(), at->second.size());
    return values;
  }
  template <class T>
  T one(Attribute attribute) const {
    T value;
    std::memcpy(&value, &attributes.at(attribute).at(sizeof value - 1) - (sizeof value - 1), sizeof value);
    return value;
  }
  bool has(Attribute attribute) const { return attributes.contains(attribute); }
  const Recorded& to(Attribute attribute) const {
    return *static_cast<Recorded*>(one<Descriptor>(attribute));
  }
};

/// The library that is stood in for: every descriptor made, and what happened to them.
struct Library {
  int alive = 0, handles = 0, executed = 0;
  int refuse_plans = 0;  ///< so many plans are refused before one is taken
  std::int64_t workspace = 4096;
  void* stream = nullptr;
} library;

/// Four indices of a tensor in row-major order of `sizes`, and where a tensor with these strides has them (an
/// axis of size 1 is read over and over).
std::size_t place(const Recorded& tensor, const std::vector<std::int64_t>& at) {
  const auto sizes = tensor.all<std::int64_t>(kTensorSizes),
             strides = tensor.all<std::int64_t>(kTensorStrides);
  std::int64_t where = 0;
  for (std::size_t axis = 0; axis < 4; ++axis) {
    // Fewer heads of keys than of queries: neighbouring query heads share one.
    const std::int64_t i = sizes[axis] == 1 ? 0 : at[axis];
    if (i >= sizes[axis]) throw std::out_of_range{"index"};
    where += i * strides[axis];
  }
  return static_cast<std::size_t>(where);
}

template <class Each>
void for_all(const std::vector<std::int64_t>& sizes, Each each) {
  std::vector<std::int64_t> at(4);
  for (at[0] = 0; at[0] < sizes[0]; ++at[0])
    for (at[1] = 0; at[1] < sizes[1]; ++at[1])
      for (at[2] = 0; at[2] < sizes[2]; ++at[2])
        for (at[3] = 0; at[3] < sizes[3]; ++at[3]) each(at);
}

/// Runs the operations one after the other in double; tensors in memory are double here, too.
class Interpreter {
 public:
  Interpreter(const Recorded& graph, const Recorded& pack) {
    const auto ids = pack.all<std::int64_t>(kPackIds);
    const auto addresses = pack.all<void*>(kPackPointers);
    for (std::size_t i = 0; i < ids.size(); ++i) given_[ids[i]] = addresses.at(i);
    for (const Descriptor operation : graph.all<Descriptor>(kGraphOperations))
      run(*static_cast<Recorded*>(operation));
  }

 private:
  double get(const Recorded& tensor, const std::vector<std::int64_t>& at) {
    const auto id = tensor.one<std::int64_t>(kTensorId);
    if (tensor.has(kTensorByValue)) return *static_cast<const float*>(given_.at(id));
    return memory(tensor)[place(tensor, at)];
  }
  double* memory(const Recorded& tensor) {
    const auto id = tensor.one<std::int64_t>(kTensorId);
    if (!tensor.one<bool>(kTensorVirtual)) return static_cast<double*>(given_.at(id));
    std::vector<double>& own = between_[id];
    std::int64_t count = 1;
    for (const std::int64_t size : tensor.all<std::int64_t>(kTensorSizes)) count *= size;
    own.resize(static_cast<std::size_t>(count), std::numeric_limits<double>::quiet_NaN());
    return own.data();
  }
  void run(const Recorded& operation) {
    if (operation.type == kMatmulOperation) {
      const Recorded &a = operation.to(kMatmulA), &b = operation.to(kMatmulB), &c = operation.to(kMatmulC);
      const std::int64_t depth = a.all<std::int64_t>(kTensorSizes)[3],
                         group = a.all<std::int64_t>(kTensorSizes)[1] / b.all<std::int64_t>(kTensorSizes)[1];
      if (b.all<std::int64_t>(kTensorSizes)[2] != depth) throw std::invalid_argument{"depths differ"};
      for_all(c.all<std::int64_t>(kTensorSizes), [&](const std::vector<std::int64_t>& at) {
        double sum = 0;
        for (std::int64_t d = 0; d < depth; ++d)
          sum += get(a, {at[0], at[1], at[2], d}) * get(b, {at[0], at[1] / group, d, at[3]});
        memory(c)[place(c, at)] = sum;
      });
    } else if (operation.type == kReductionOperation) {
      const Recorded &x = operation.to(kReductionX), &y = operation.to(kReductionY);
      const bool max = operation.to(kReductionDescriptor).one<ReductionMode>(kReductionMode) == kReduceMax;
      for_all(y.all<std::int64_t>(kTensorSizes), [&](const std::vector<std::int64_t>& at) {
        double sum = max ? -std::numeric_limits<double>::infinity() : 0;
        for (std::int64_t i = 0; i < x.all<std::int64_t>(kTensorSizes)[3]; ++i) {
          const double value = get(x, {at[0], at[1], at[2], i});
          sum = max ? std::fmax(sum, value) : sum + value;
        }
        memory(y)[place(y, at)] = sum;
      });
    } else {
      const Recorded& how = operation.to(kPointwiseDescriptor);
      const Recorded &x = operation.to(kPointwiseX), &y = operation.to(kPointwiseY);
      for_all(y.all<std::int64_t>(kTensorSizes), [&](const std::vector<std::int64_t>& at) {
        const auto b = [&] { return get(operation.to(kPointwiseB), at); };
        double& out = memory(y)[place(y, at)];
        switch (how.one<PointwiseMode>(kPointwiseMode)) {
          case cudnn::kAdd:
            out = get(x, at) + b();
            break;
          case kMul:
            out = get(x, at) * b();
            break;
          case kSub:
            out = get(x, at) - b();
            break;
          case kDiv:
            out = get(x, at) / b();
            break;
          case kExp:
            out = std::exp(get(x, at));
            break;
          case kLog:
            out = std::log(get(x, at));
            break;
          case kGreaterEqual:
            out = get(x, at) >= b() ? 1 : 0;
            break;
          case kGenIndex:
            out = static_cast<double>(at[static_cast<std::size_t>(how.one<std::int64_t>(kPointwiseAxis))]);
            break;
          case kSelect:
            out = get(operation.to(kPointwiseT), at) != 0 ? get(x, at) : b();
            break;
        }
      });
    }
  }

  std::map<std::int64_t, void*> given_;
  std::map<std::int64_t, std::vector<double>> between_;
};

const Recorded* planned_graph = nullptr;  ///< of the last heuristic

std::size_t width_of(ValueType type) {
  switch (type) {
    case kBooleanValue:
    case kCharValue:
      return 1;
    case kInt64Value:
    case kPointerValue:
    case kHandleValue:
    case kDescriptorValue:
      return 8;
    default:
      return 4;
  }
}

Backend stand_in() {
  Backend b;
  b.create = [](DescriptorType type, Descriptor* made) -> Status {
    *made = new Recorded{type};
    ++library.alive;
    return 0;
  };
  b.destroy = [](Descriptor at) -> Status {
    delete static_cast<Recorded*>(at);
    --library.alive;
    return 0;
  };
  b.set = [](Descriptor at, Attribute attribute, ValueType type, std::int64_t count,
             const void* values) -> Status {
    auto& recorded = *static_cast<Recorded*>(at);
    if (recorded.finalized || count < 1 || values == nullptr) return kBadParameter;
    const auto* const bytes = static_cast<const unsigned char*>(values);
    recorded.attributes[attribute].assign(bytes, bytes + static_cast<std::size_t>(count) * width_of(type));
    // What is pointed to must be finished.
    if (type == kDescriptorValue)
      for (const Descriptor other : recorded.all<Descriptor>(attribute))
        if (!static_cast<Recorded*>(other)->finalized) return kBadParameter;
    return 0;
  };
  b.get = [](Descriptor at, Attribute attribute, ValueType, std::int64_t count, std::int64_t* there,
             void* to) -> Status {
    auto& recorded = *static_cast<Recorded*>(at);
    if (attribute == kHeuristicResults) {
      *there = 2;
      for (std::int64_t i = 0; i < count; ++i)
        static_cast<Recorded*>(static_cast<Descriptor*>(to)[i])->finalized = true;
      return 0;
    }
    if (attribute == kPlanWorkspace) {
      std::memcpy(to, &library.workspace, 8);
      return 0;
    }
    if (attribute == kConfigEngine) return 0;
    if (attribute == kEngineIndex) {
      const std::int64_t index = 7;
      std::memcpy(to, &index, 8);
      return 0;
    }
    if (attribute == kConfigKnobs) {
      *there = 0;
      return 0;
    }
    return recorded.finalized ? kNotSupported : kBadParameter;
  };
  b.finalize = [](Descriptor at) -> Status {
    auto& recorded = *static_cast<Recorded*>(at);
    if (recorded.type == kPlan && library.refuse_plans-- > 0) return kNotSupported;
    if (recorded.type == kEngineHeuristic) planned_graph = &recorded.to(kHeuristicGraph);
    recorded.finalized = true;
    return 0;
  };
  b.execute = [](void*, Descriptor, Descriptor pack) -> Status {
    ++library.executed;
    Interpreter{*planned_graph, *static_cast<Recorded*>(pack)};
    return 0;
  };
  b.create_handle = [](void** handle) -> Status {
    *handle = &library;
    ++library.handles;
    return 0;
  };
  b.destroy_handle = [](void*) -> Status {
    --library.handles;
    return 0;
  };
  b.set_stream = [](void*, void* stream) -> Status {
    library.stream = stream;
    return 0;
  };
  b.error_text = [](Status) { return "NOT_SUPPORTED"; };
  b.last_error = [](char* to, std::size_t) { std::strcpy(to, "because"); };
  b.version = []() -> std::size_t { return 91900; };
  return b;
}

double input(std::int64_t seed, std::int64_t i) {
  return std::sin(static_cast<double>(seed * 7919 + i * 104729));
}

/// Largest difference to attention computed directly.
double error_of(const CudnnShape& s) {
  library = {};
  const Backend backend = stand_in();
  const auto count = [&](std::int64_t heads) {
    return static_cast<std::size_t>(s.batch * s.seq * heads * s.head_dim);
  };
  std::vector<double> q(count(s.heads)), k(count(s.kv_heads)), v(count(s.kv_heads)),
      out(count(s.heads), std::nan(""));
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = input(1, static_cast<std::int64_t>(i));
  for (std::size_t i = 0; i < k.size(); ++i) {
    k[i] = input(2, static_cast<std::int64_t>(i));
    v[i] = input(3, static_cast<std::int64_t>(i));
  }
  {
    CudnnAttention attention{s};
    int stream = 0;
    attention.run(backend, q.data(), k.data(), v.data(), out.data(), nullptr, &stream);
    attention.run(backend, q.data(), k.data(), v.data(), out.data(), nullptr, &stream);
    CHECK(library.stream == &stream);
    CHECK(library.executed == 2);
    CHECK(attention.algorithm() == "cuDNN 9.19.0, engine 7, workspace 4096 bytes");
  }
  CHECK(library.alive == 0);
  CHECK(library.handles == 0);

  double worst = 0;
  const auto at = [&](std::int64_t batch, std::int64_t row, std::int64_t heads, std::int64_t head) {
    return static_cast<std::size_t>(((batch * s.seq + row) * heads + head) * s.head_dim);
  };
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      for (std::int64_t row = 0; row < s.seq; ++row) {
        const std::int64_t kv = h / (s.heads / s.kv_heads), end = s.causal ? row + 1 : s.seq;
        std::vector<double> weights;
        double sum = 0;
        for (std::int64_t key = 0; key < end; ++key) {
          double score = 0;
          for (std::int64_t d = 0; d < s.head_dim; ++d)
            score += q[at(b, row, s.heads, h) + static_cast<std::size_t>(d)] *
                     k[at(b, key, s.kv_heads, kv) + static_cast<std::size_t>(d)];
          weights.push_back(std::exp(score / std::sqrt(static_cast<double>(s.head_dim))));
          sum += weights.back();
        }
        for (std::int64_t d = 0; d < s.head_dim; ++d) {
          double expected = 0;
          for (std::int64_t key = 0; key < end; ++key)
            expected += weights[static_cast<std::size_t>(key)] / sum *
                        v[at(b, key, s.kv_heads, kv) + static_cast<std::size_t>(d)];
          const double difference =
              std::abs(out[at(b, row, s.heads, h) + static_cast<std::size_t>(d)] - expected);
          worst = difference <= worst ? worst : difference;  // NaN is taken over
        }
      }
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("cuDNN's graph computes attention") {
  CHECK(error_of({.batch = 2, .seq = 5, .heads = 4, .kv_heads = 2, .head_dim = 8, .causal = true}) < 1e-6);
  CHECK(error_of({.batch = 1, .seq = 7, .heads = 2, .kv_heads = 2, .head_dim = 4, .causal = false}) < 1e-6);
}

TEST_CASE("a configuration that cuDNN refuses is passed over") {
  library = {.refuse_plans = 1};
  const Backend backend = stand_in();
  const CudnnShape shape{.seq = 4, .head_dim = 8};
  {
    Graph graph{backend};
    add_attention(graph, shape);
    CHECK(plan_of(graph, {.handle = &library}, 4096).workspace_bytes == 4096);
  }
  SECTION("and so is one that needs more memory than there is") {
    Graph graph{backend};
    add_attention(graph, shape);
    CHECK_THROWS_WITH(plan_of(graph, {.handle = &library}, 4095),
                      Catch::Matchers::ContainsSubstring("a workspace of 4096 bytes"));
  }
  SECTION("and if all are, it is said why") {
    library.refuse_plans = 100;
    Graph graph{backend};
    add_attention(graph, shape);
    CHECK_THROWS_WITH(plan_of(graph, {.handle = &library}, 4096),
                      Catch::Matchers::ContainsSubstring("because"));
  }
  CHECK(library.alive == 0);
}

TEST_CASE("cuDNN itself takes the graph of attention") {
#if defined(__SANITIZE_ADDRESS__)
  SKIP("the vendor's library is not for the sanitizers");
#endif
  const Backend* backend = nullptr;
  try {
    backend = &loaded_backend();
  } catch (const LibraryMissing& e) {
    SKIP(e.what());
  }
  for (const bool causal : {true, false}) {
    for (const std::int64_t head_dim : {64, 128}) {
      Graph graph{*backend};
      add_attention(
          graph, {.batch = 2, .seq = 77, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .causal = causal});
      CHECK(graph.finish(nullptr) != nullptr);  // every tensor and operation was finalised by the library
    }
  }
  // And what is wrong it refuses: the check above can fail.
  Graph graph{*backend};
  const TensorShape four{{1, 1, 4, 4}, {16, 16, 4, 1}}, five{{1, 1, 5, 5}, {25, 25, 5, 1}};
  const Descriptor a = graph.tensor(1, kBfloat16, four), b = graph.tensor(2, kBfloat16, five),
                   c = graph.tensor(3, kBfloat16, four);
  CHECK_THROWS_AS(graph.matmul(a, b, c), std::runtime_error);
}

TEST_CASE("a library that is not there is named with its variable") {
  const LibraryName name{.name = "cuNothing",
                         .variable = "TESSERA_CUNOTHING",
                         .file = "libcunothing.so",
                         .versions = {".1"},
                         .comes_with = "from nowhere"};
  CHECK_THROWS_WITH(LoadedLibrary{name}, Catch::Matchers::ContainsSubstring("TESSERA_CUNOTHING") &&
                                             Catch::Matchers::ContainsSubstring("cuNothing not found"));
  CHECK_THROWS_AS(LoadedLibrary{name}, LibraryMissing);
  ::setenv("TESSERA_CUNOTHING", "/nowhere/libcunothing.so", 1);
  CHECK_THROWS_WITH(LoadedLibrary{name}, Catch::Matchers::ContainsSubstring("/nowhere/libcunothing.so"));
  ::unsetenv("TESSERA_CUNOTHING");
}

#ifdef CUDNN_GRAPH_H_
// The numbers that are declared without cuDNN's header are those of the header.
static_assert(static_cast<int>(cudnn::kPointwise) == CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
static_assert(static_cast<int>(kEngine) == CUDNN_BACKEND_ENGINE_DESCRIPTOR);
static_assert(static_cast<int>(kEngineConfig) == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
static_assert(static_cast<int>(kEngineHeuristic) == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
static_assert(static_cast<int>(kPlan) == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
static_assert(static_cast<int>(kKnobChoice) == CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
static_assert(static_cast<int>(kPointwiseOperation) == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
static_assert(static_cast<int>(kOperationGraph) == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
static_assert(static_cast<int>(kVariantPack) == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
static_assert(static_cast<int>(kTensor) == CUDNN_BACKEND_TENSOR_DESCRIPTOR);
static_assert(static_cast<int>(kMatmul) == CUDNN_BACKEND_MATMUL_DESCRIPTOR);
static_assert(static_cast<int>(kMatmulOperation) == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
static_assert(static_cast<int>(kReduction) == CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
static_assert(static_cast<int>(kReductionOperation) == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
static_assert(static_cast<int>(kDeviceProperties) == 38);  // since cuDNN 9.8
static_assert(static_cast<int>(kPointwiseMode) == CUDNN_ATTR_POINTWISE_MODE);
static_assert(static_cast<int>(kPointwisePrecision) == CUDNN_ATTR_POINTWISE_MATH_PREC);
static_assert(static_cast<int>(kPointwiseAxis) == CUDNN_ATTR_POINTWISE_AXIS);
static_assert(static_cast<int>(kHeuristicMode) == CUDNN_ATTR_ENGINEHEUR_MODE);
static_assert(static_cast<int>(kHeuristicGraph) == CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
static_assert(static_cast<int>(kHeuristicResults) == CUDNN_ATTR_ENGINEHEUR_RESULTS);
static_assert(static_cast<int>(kConfigEngine) == CUDNN_ATTR_ENGINECFG_ENGINE);
static_assert(static_cast<int>(kConfigKnobs) == CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);
static_assert(static_cast<int>(kPlanHandle) == CUDNN_ATTR_EXECUTION_PLAN_HANDLE);
static_assert(static_cast<int>(kPlanConfig) == CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
static_assert(static_cast<int>(kPlanWorkspace) == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
static_assert(static_cast<int>(kKnobType) == CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE);
static_assert(static_cast<int>(kKnobValue) == CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
static_assert(static_cast<int>(kPointwiseDescriptor) == CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
static_assert(static_cast<int>(kPointwiseX) == CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
static_assert(static_cast<int>(kPointwiseB) == CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
static_assert(static_cast<int>(kPointwiseY) == CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
static_assert(static_cast<int>(kPointwiseT) == CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
static_assert(static_cast<int>(kGraphHandle) == CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
static_assert(static_cast<int>(kGraphOperations) == CUDNN_ATTR_OPERATIONGRAPH_OPS);
static_assert(static_cast<int>(kTensorAlignment) == CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
static_assert(static_cast<int>(kTensorType) == CUDNN_ATTR_TENSOR_DATA_TYPE);
static_assert(static_cast<int>(kTensorSizes) == CUDNN_ATTR_TENSOR_DIMENSIONS);
static_assert(static_cast<int>(kTensorStrides) == CUDNN_ATTR_TENSOR_STRIDES);
static_assert(static_cast<int>(kTensorId) == CUDNN_ATTR_TENSOR_UNIQUE_ID);
static_assert(static_cast<int>(kTensorVirtual) == CUDNN_ATTR_TENSOR_IS_VIRTUAL);
static_assert(static_cast<int>(kTensorByValue) == CUDNN_ATTR_TENSOR_IS_BY_VALUE);
static_assert(static_cast<int>(kPackIds) == CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
static_assert(static_cast<int>(kPackPointers) == CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
static_assert(static_cast<int>(kPackWorkspace) == CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
static_assert(static_cast<int>(kEngineIndex) == CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
static_assert(static_cast<int>(kMatmulType) == CUDNN_ATTR_MATMUL_COMP_TYPE);
static_assert(static_cast<int>(kMatmulA) == CUDNN_ATTR_OPERATION_MATMUL_ADESC);
static_assert(static_cast<int>(kMatmulDescriptor) == CUDNN_ATTR_OPERATION_MATMUL_DESC);
static_assert(static_cast<int>(kReductionMode) == CUDNN_ATTR_REDUCTION_OPERATOR);
static_assert(static_cast<int>(kReductionX) == CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
static_assert(static_cast<int>(kReductionDescriptor) == CUDNN_ATTR_OPERATION_REDUCTION_DESC);
static_assert(static_cast<int>(kBfloat16) == CUDNN_DATA_BFLOAT16 &&
              static_cast<int>(kBoolean) == CUDNN_DATA_BOOLEAN);
static_assert(static_cast<int>(kInt32) == CUDNN_DATA_INT32 && static_cast<int>(kFloat) == CUDNN_DATA_FLOAT);
static_assert(static_cast<int>(kDiv) == CUDNN_POINTWISE_DIV && static_cast<int>(kMul) == CUDNN_POINTWISE_MUL);
static_assert(static_cast<int>(kSub) == CUDNN_POINTWISE_SUB && static_cast<int>(kExp) == CUDNN_POINTWISE_EXP);
static_assert(static_cast<int>(kLog) == CUDNN_POINTWISE_LOG &&
              static_cast<int>(kSelect) == CUDNN_POINTWISE_BINARY_SELECT);
static_assert(static_cast<int>(kGenIndex) == CUDNN_POINTWISE_GEN_INDEX);
static_assert(static_cast<int>(kGreaterEqual) == CUDNN_POINTWISE_CMP_GE);
static_assert(static_cast<int>(kReduceMax) == CUDNN_REDUCE_TENSOR_MAX);
static_assert(static_cast<int>(kModeA) == CUDNN_HEUR_MODE_A &&
              static_cast<int>(kModeFallback) == CUDNN_HEUR_MODE_FALLBACK);
static_assert(static_cast<int>(kDescriptorValue) == CUDNN_TYPE_BACKEND_DESCRIPTOR);
static_assert(static_cast<int>(kReductionModeValue) == CUDNN_TYPE_REDUCTION_OPERATOR_TYPE);
static_assert(static_cast<int>(kPointwiseModeValue) == CUDNN_TYPE_POINTWISE_MODE);
static_assert(static_cast<int>(kKnobTypeValue) == CUDNN_TYPE_KNOB_TYPE);
static_assert(static_cast<int>(kHeuristicModeValue) == CUDNN_TYPE_HEUR_MODE);
static_assert(static_cast<int>(kPointerValue) == CUDNN_TYPE_VOID_PTR);
static_assert(static_cast<int>(kCharValue) == CUDNN_TYPE_CHAR);
#endif

}  // namespace tessera::cuda::cudnn
