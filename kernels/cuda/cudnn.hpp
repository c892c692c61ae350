#pragma once
// cuDNN's backend API, as much of it as a graph of products, pointwise operations and reductions takes. The
// numbers are those of cudnn_graph.h (cuDNN 9), which has them as a stable C interface: declared here, they
// need no header at build time, and a test can stand in for the library.

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace tessera::cuda::cudnn {

using Descriptor = void*;
using Status = int;  ///< 0: success

enum DescriptorType : int {
  kPointwise = 0,
  kEngine = 2,
  kEngineConfig = 3,
  kEngineHeuristic = 4,
  kPlan = 5,
  kKnobChoice = 7,
  kPointwiseOperation = 13,
  kOperationGraph = 15,
  kVariantPack = 16,
  kTensor = 17,
  kMatmul = 18,
  kMatmulOperation = 19,
  kReduction = 21,
  kReductionOperation = 22,
  kDeviceProperties = 38
};

enum Attribute : int {
  kPointwiseMode = 0,
  kPointwisePrecision = 1,
  kPointwiseAxis = 9,
  kHeuristicMode = 200,
  kHeuristicGraph = 201,
  kHeuristicResults = 202,
  kHeuristicDevice = 204,
  kConfigEngine = 300,
  kConfigKnobs = 302,
  kPlanHandle = 400,
  kPlanConfig = 401,
  kPlanWorkspace = 402,
  kPlanDevice = 407,
  kKnobType = 600,
  kKnobValue = 601,
  kPointwiseDescriptor = 750,
  kPointwiseX = 751,
  kPointwiseB = 752,
  kPointwiseY = 753,
  kPointwiseT = 758,
  kGraphHandle = 800,
  kGraphOperations = 801,
  kTensorAlignment = 900,
  kTensorType = 901,
  kTensorSizes = 902,
  kTensorStrides = 903,
  kTensorId = 906,
  kTensorVirtual = 907,
  kTensorByValue = 908,
  kPackIds = 1000,
  kPackPointers = 1001,
  kPackWorkspace = 1003,
  kEngineIndex = 1301,
  kMatmulType = 1500,
  kMatmulA = 1520,
  kMatmulB = 1521,
  kMatmulC = 1522,
  kMatmulDescriptor = 1523,
  kReductionMode = 1600,
  kReductionType = 1601,
  kReductionX = 1610,
  kReductionY = 1611,
  kReductionDescriptor = 1612,
  kDeviceJson = 2702
};

enum ValueType : int {
  kHandleValue = 0,
  kDataTypeValue = 1,
  kBooleanValue = 2,
  kInt64Value = 3,
  kPointerValue = 6,
  kHeuristicModeValue = 8,
  kKnobTypeValue = 9,
  kPointwiseModeValue = 14,
  kDescriptorValue = 15,
  kReductionModeValue = 18,
  kCharValue = 24
};

enum DataType : int { kFloat = 0, kInt32 = 4, kBfloat16 = 9, kBoolean = 11 };
enum PointwiseMode : int {
  kAdd = 0,
  kMul = 1,
  kSub = 9,
  kDiv = 6,
  kExp = 13,
  kLog = 15,
  kGreaterEqual = 303,
  kGenIndex = 501,
  kSelect = 601
};
enum ReductionMode : int { kReduceAdd = 0, kReduceMax = 3 };
enum HeuristicMode : int { kModeA = 3, kModeFallback = 2 };

/// The functions, as the library or a test has them.
struct Backend {
  Status (*create)(DescriptorType, Descriptor*) = nullptr;
  Status (*destroy)(Descriptor) = nullptr;
  Status (*set)(Descriptor, Attribute, ValueType, std::int64_t count, const void*) = nullptr;
  Status (*get)(Descriptor, Attribute, ValueType, std::int64_t count, std::int64_t* there, void*) = nullptr;
  Status (*finalize)(Descriptor) = nullptr;
  Status (*execute)(void* handle, Descriptor plan, Descriptor pack) = nullptr;
  Status (*create_handle)(void**) = nullptr;
  Status (*destroy_handle)(void*) = nullptr;
  Status (*set_stream)(void* handle, void* stream) = nullptr;
  const char* (*error_text)(Status) = nullptr;
  void (*last_error)(char*, std::size_t) = nullptr;
  std::size_t (*version)() = nullptr;  ///< 91900 of 9.19.0
};

/// Out of the machine's libcudnn. LibraryMissing without one; std::runtime_error if it is older than cuDNN 9.
const Backend& loaded_backend();

/// std::runtime_error with what cuDNN says of it.
void require(const Backend& backend, Status status, const std::string& what);

/// A context of the library's.
class Handle {
 public:
  explicit Handle(const Backend& backend);
  ~Handle() { backend_.destroy_handle(handle_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  void* get() const { return handle_; }

 private:
  const Backend& backend_;
  void* handle_ = nullptr;
};

/// Descriptors that live and die together; the last made goes first.
class Descriptors {
 public:
  explicit Descriptors(const Backend& backend) : backend_{backend} {}
  ~Descriptors();
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;

  const Backend& backend() const { return backend_; }
  Descriptor make(DescriptorType type);
  void set(Descriptor at, Attribute attribute, ValueType type, std::int64_t count, const void* values);
  template <class T>
  void set(Descriptor at, Attribute attribute, ValueType type, const T& value) {
    set(at, attribute, type, 1, &value);
  }
  template <class T>
  void set(Descriptor at, Attribute attribute, ValueType type, const std::vector<T>& values) {
    set(at, attribute, type, static_cast<std::int64_t>(values.size()), values.data());
  }
  void finalize(Descriptor at, const std::string& what);

 private:
  const Backend& backend_;
  std::vector<Descriptor> made_;
};

struct TensorShape {
  std::vector<std::int64_t> sizes, strides;  ///< elements
};
TensorShape scalar_shape();  ///< four dimensions of 1

/// Operations and tensors of one graph, in the order in which they are added.
class Graph {
 public:
  explicit Graph(const Backend& backend) : descriptors_{backend} {}
  /// In memory: given its address by `id` at every run.
  Descriptor tensor(std::int64_t id, DataType type, const TensorShape& shape);
  /// Between two operations: never in memory.
  Descriptor between(DataType type, const TensorShape& shape);
  /// A number, whose address on the host is given by `id`.
  Descriptor number(std::int64_t id);

  void matmul(Descriptor a, Descriptor b, Descriptor c);
  /// y = x op b. `t`: what a selection asks.
  void pointwise(PointwiseMode mode, DataType precision, Descriptor x, Descriptor b, Descriptor y,
                 Descriptor t = nullptr);
  /// y = the index along an axis of x.
  void index(std::int64_t axis, Descriptor x, Descriptor y);
  /// Over the axes in which y has size 1.
  void reduce(ReductionMode mode, Descriptor x, Descriptor y);

  /// `handle`: null to plan for a device that is not there. std::runtime_error: cuDNN refuses.
  Descriptor finish(void* handle);
  Descriptors& descriptors() { return descriptors_; }

 private:
  Descriptor make_tensor(std::int64_t id, DataType type, const TensorShape& shape, bool is_virtual,
                         bool by_value);
  /// What an operation does has a descriptor of its own, with numbers; the operation has that one and
  /// tensors.
  struct Kind {
    const char* name;
    DescriptorType description, operation;
    Attribute described_by;
  };
  struct Number {
    Attribute attribute;
    ValueType type;
    std::int64_t value;
  };
  using Connections = std::initializer_list<std::pair<Attribute, Descriptor>>;  // null: not connected
  void add(const Kind& kind, std::initializer_list<Number> described, const Connections& connections);

  Descriptors descriptors_;
  std::vector<Descriptor> operations_;
  std::int64_t next_virtual_ = 1000;  // ids of tensors in memory are below
};

/// Where a plan is to run: the GPU of a handle, or one that only its properties stand for (JSON, as cuDNN
/// writes it), for which kernels are chosen and compiled without a GPU.
struct PlanFor {
  void* handle = nullptr;
  std::string device_json = {};
};

struct Plan {
  Descriptor plan = nullptr;
  std::int64_t workspace_bytes = 0;
  std::string engine;  ///< "engine 5, knobs 12=1 ..."
};
/// The heuristic's first configuration that can be planned and needs no more workspace. std::runtime_error:
/// none, with what cuDNN said of the last.
Plan plan_of(Graph& graph, const PlanFor& where, std::int64_t most_workspace_bytes);

}  // namespace tessera::cuda::cudnn
