#include "kernels/cuda/cudnn.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "kernels/cuda/loaded_library.hpp"

namespace tessera::cuda::cudnn {

const Backend& loaded_backend() {
  static const Backend loaded = [] {
    const LoadedLibrary library{
        {.name = "cuDNN",
         .variable = "TESSERA_CUDNN",
         .file = "libcudnn.so",
         .versions = {".9", ""},
         .comes_with = "from NVIDIA's cuDNN 9, and with PyTorch as nvidia/cudnn/lib/libcudnn.so.9"}};
    Backend b;
    library.find("cudnnBackendCreateDescriptor", b.create)
        .find("cudnnBackendDestroyDescriptor", b.destroy)
        .find("cudnnBackendSetAttribute", b.set)
        .find("cudnnBackendGetAttribute", b.get)
        .find("cudnnBackendFinalize", b.finalize)
        .find("cudnnBackendExecute", b.execute)
        .find("cudnnCreate", b.create_handle)
        .find("cudnnDestroy", b.destroy_handle)
        .find("cudnnSetStream", b.set_stream)
        .find("cudnnGetErrorString", b.error_text)
        .find("cudnnGetVersion", b.version)
        .find("cudnnGetLastErrorString", b.last_error);
    if (b.version() < 90000)
      throw std::runtime_error{fmt::format("cuDNN {} is too old: expected 9.0 or later", b.version())};
    return b;
  }();
  return loaded;
}

void require(const Backend& backend, Status status, const std::string& what) {
  if (status == 0) return;
  char more[512] = {};
  backend.last_error(more, sizeof more);
  require_success(status, what, "cuDNN",
                  fmt::format("{}{}{}", backend.error_text(status), *more != '\0' ? ": " : "", more));
}

Handle::Handle(const Backend& backend) : backend_{backend} {
  require(backend, backend.create_handle(&handle_), "cudnnCreate");
}

Descriptors::~Descriptors() {
  for (auto at = made_.rbegin(); at != made_.rend(); ++at) backend_.destroy(*at);
}

Descriptor Descriptors::make(DescriptorType type) {
  Descriptor made = nullptr;
  require(backend_, backend_.create(type, &made),
          fmt::format("descriptor of type {}", static_cast<int>(type)));
  made_.push_back(made);
  return made;
}

void Descriptors::set(Descriptor at, Attribute attribute, ValueType type, std::int64_t count,
                      const void* values) {
  require(backend_, backend_.set(at, attribute, type, count, values),
          fmt::format("attribute {}", static_cast<int>(attribute)));
}

void Descriptors::finalize(Descriptor at, const std::string& what) {
  require(backend_, backend_.finalize(at), what);
}

TensorShape scalar_shape() { return {{1, 1, 1, 1}, {1, 1, 1, 1}}; }

Descriptor Graph::make_tensor(std::int64_t id, DataType type, const TensorShape& shape, bool is_virtual,
                              bool by_value) {
  constexpr std::int64_t kAlignment = 16;  // cudaMalloc's is more; this is what 16-byte accesses need
  const Descriptor tensor = descriptors_.make(kTensor);
  descriptors_.set(tensor, kTensorType, kDataTypeValue, type);
  descriptors_.set(tensor, kTensorSizes, kInt64Value, shape.sizes);
  descriptors_.set(tensor, kTensorStrides, kInt64Value, shape.strides);
  descriptors_.set(tensor, kTensorId, kInt64Value, id);
  descriptors_.set(tensor, kTensorAlignment, kInt64Value, kAlignment);
  descriptors_.set(tensor, kTensorVirtual, kBooleanValue, is_virtual);
  if (by_value) descriptors_.set(tensor, kTensorByValue, kBooleanValue, by_value);
  descriptors_.finalize(tensor, "tensor");
  return tensor;
}

Descriptor Graph::tensor(std::int64_t id, DataType type, const TensorShape& shape) {
  return make_tensor(id, type, shape, false, false);
}
Descriptor Graph::between(DataType type, const TensorShape& shape) {
  return make_tensor(next_virtual_++, type, shape, true, false);
}
Descriptor Graph::number(std::int64_t id) { return make_tensor(id, kFloat, scalar_shape(), false, true); }

void Graph::add(const Kind& kind, std::initializer_list<Number> described, const Connections& connections) {
  const Descriptor description = descriptors_.make(kind.description);
  for (const auto& [attribute, type, value] : described) {
    // Enumerations are as wide as int there, and axes as long.
    if (type == kInt64Value)
      descriptors_.set(description, attribute, type, value);
    else
      descriptors_.set(description, attribute, type, static_cast<int>(value));
  }
  descriptors_.finalize(description, kind.name);
  const Descriptor operation = descriptors_.make(kind.operation);
  descriptors_.set(operation, kind.described_by, kDescriptorValue, description);
  for (const auto& [attribute, tensor] : connections)
    if (tensor != nullptr) descriptors_.set(operation, attribute, kDescriptorValue, tensor);
  descriptors_.finalize(operation, std::string{kind.name} + " operation");
  operations_.push_back(operation);
}

void Graph::matmul(Descriptor a, Descriptor b, Descriptor c) {
  add({"product", kMatmul, kMatmulOperation, kMatmulDescriptor}, {{kMatmulType, kDataTypeValue, kFloat}},
      {{kMatmulA, a}, {kMatmulB, b}, {kMatmulC, c}});
}

void Graph::pointwise(PointwiseMode mode, DataType precision, Descriptor x, Descriptor b, Descriptor y,
                      Descriptor t) {
  add({"pointwise", kPointwise, kPointwiseOperation, kPointwiseDescriptor},
      {{kPointwiseMode, kPointwiseModeValue, mode}, {kPointwisePrecision, kDataTypeValue, precision}},
      {{kPointwiseX, x}, {kPointwiseB, b}, {kPointwiseT, t}, {kPointwiseY, y}});
}

void Graph::index(std::int64_t axis, Descriptor x, Descriptor y) {
  add({"index", kPointwise, kPointwiseOperation, kPointwiseDescriptor},
      {{kPointwiseMode, kPointwiseModeValue, kGenIndex},
       {kPointwisePrecision, kDataTypeValue, kInt32},
       {kPointwiseAxis, kInt64Value, axis}},
      {{kPointwiseX, x}, {kPointwiseY, y}});
}

void Graph::reduce(ReductionMode mode, Descriptor x, Descriptor y) {
  add({"reduction", kReduction, kReductionOperation, kReductionDescriptor},
      {{kReductionMode, kReductionModeValue, mode}, {kReductionType, kDataTypeValue, kFloat}},
      {{kReductionX, x}, {kReductionY, y}});
}

Descriptor Graph::finish(void* handle) {
  const Descriptor graph = descriptors_.make(kOperationGraph);
  if (handle != nullptr) descriptors_.set(graph, kGraphHandle, kHandleValue, handle);
  descriptors_.set(graph, kGraphOperations, kDescriptorValue, operations_);
  descriptors_.finalize(graph, "operation graph");
  return graph;
}

namespace {

/// Numbers of the engine and its knobs; "" of what the library does not tell.
std::string engine_of(Descriptors& d, Descriptor config) {
  const Backend& backend = d.backend();
  Descriptor engine = d.make(kEngine);
  std::int64_t there = 0, index = -1;
  if (backend.get(config, kConfigEngine, kDescriptorValue, 1, &there, &engine) != 0 ||
      backend.get(engine, kEngineIndex, kInt64Value, 1, &there, &index) != 0)
    return "";
  std::string text = fmt::format("engine {}", index);
  constexpr std::int64_t kMostKnobs = 64;
  std::vector<Descriptor> knobs;
  for (std::int64_t i = 0; i < kMostKnobs; ++i) knobs.push_back(d.make(kKnobChoice));
  if (backend.get(config, kConfigKnobs, kDescriptorValue, kMostKnobs, &there, knobs.data()) != 0) return text;
  for (std::int64_t i = 0; i < std::min(there, kMostKnobs); ++i) {
    std::int32_t type = 0;
    std::int64_t value = 0, one = 0;
    const Descriptor knob = knobs[static_cast<std::size_t>(i)];
    if (backend.get(knob, kKnobType, kKnobTypeValue, 1, &one, &type) == 0 &&
        backend.get(knob, kKnobValue, kInt64Value, 1, &one, &value) == 0)
      text += fmt::format("{}{}={}", i == 0 ? ", knobs " : " ", type, value);
  }
  return text;
}

}  // namespace

Plan plan_of(Graph& graph, const PlanFor& where, std::int64_t most_workspace_bytes) {
  Descriptors& d = graph.descriptors();
  const Backend& backend = d.backend();
  Descriptor device = nullptr;
  if (where.handle == nullptr) {
    device = d.make(kDeviceProperties);
    d.set(device, kDeviceJson, kCharValue, static_cast<std::int64_t>(where.device_json.size()),
          where.device_json.data());
    d.finalize(device, "device properties");
  }
  const Descriptor operations = graph.finish(where.handle);
  std::string last = "no configuration at all";
  for (const HeuristicMode mode : {kModeA, kModeFallback}) {
    const Descriptor heuristic = d.make(kEngineHeuristic);
    d.set(heuristic, kHeuristicGraph, kDescriptorValue, operations);
    d.set(heuristic, kHeuristicMode, kHeuristicModeValue, mode);
    if (device != nullptr) d.set(heuristic, kHeuristicDevice, kDescriptorValue, device);
    if (const Status status = backend.finalize(heuristic); status != 0) {
      try {
        require(backend, status, "engine heuristic");
      } catch (const std::runtime_error& e) {
        last = e.what();
      }
      continue;
    }
    std::int64_t count = 0;
    require(backend, backend.get(heuristic, kHeuristicResults, kDescriptorValue, 0, &count, nullptr),
            "number of configurations");
    std::vector<Descriptor> configs;
    for (std::int64_t i = 0; i < count; ++i) configs.push_back(d.make(kEngineConfig));
    require(backend,
            backend.get(heuristic, kHeuristicResults, kDescriptorValue, count, &count, configs.data()),
            "configurations");
    for (std::int64_t i = 0; i < count; ++i) {
      const Descriptor config = configs[static_cast<std::size_t>(i)];
      Plan plan;
      plan.plan = d.make(kPlan);
      try {
        if (where.handle != nullptr) d.set(plan.plan, kPlanHandle, kHandleValue, where.handle);
        if (device != nullptr) d.set(plan.plan, kPlanDevice, kDescriptorValue, device);
        d.set(plan.plan, kPlanConfig, kDescriptorValue, config);
        d.finalize(plan.plan, "execution plan");
      } catch (const std::runtime_error& e) {
        last = e.what();
        continue;
      }
      std::int64_t there = 0;
      require(backend, backend.get(plan.plan, kPlanWorkspace, kInt64Value, 1, &there, &plan.workspace_bytes),
              "workspace");
      if (plan.workspace_bytes > most_workspace_bytes) {
        last =
            fmt::format("a workspace of {} bytes, {} are there", plan.workspace_bytes, most_workspace_bytes);
        continue;
      }
      plan.engine = engine_of(d, config);
      return plan;
    }
  }
  throw std::runtime_error{"cuDNN has no kernel for this: " + last};
}

}  // namespace tessera::cuda::cudnn
