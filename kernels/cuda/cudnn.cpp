#include "kernels/cuda/cudnn.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "kernels/cuda/loaded_library.hpp"

namespace tessera::cuda::cudnn {

const Backend& loaded_backend() {
  static const Backend loaded = [] {
    const LibraryName name{
        .name = "cuDNN",
        .variable = "TESSERA_CUDNN",
        .file = "libcudnn.so",
        .versions = {".9", ""},
        .comes_with = "from NVIDIA's cuDNN 9, and with PyTorch as nvidia/cudnn/lib/libcudnn.so.9"};
    void* const library = open_library(name);
    Backend b;
    find_symbol(library, name, "cudnnBackendCreateDescriptor", b.create);
    find_symbol(library, name, "cudnnBackendDestroyDescriptor", b.destroy);
    find_symbol(library, name, "cudnnBackendSetAttribute", b.set);
    find_symbol(library, name, "cudnnBackendGetAttribute", b.get);
    find_symbol(library, name, "cudnnBackendFinalize", b.finalize);
    find_symbol(library, name, "cudnnBackendExecute", b.execute);
    find_symbol(library, name, "cudnnCreate", b.create_handle);
    find_symbol(library, name, "cudnnDestroy", b.destroy_handle);
    find_symbol(library, name, "cudnnSetStream", b.set_stream);
    find_symbol(library, name, "cudnnGetErrorString", b.error_text);
    find_symbol(library, name, "cudnnGetVersion", b.version);
    find_symbol(library, name, "cudnnGetLastErrorString", b.last_error);
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
  throw std::runtime_error{
      fmt::format("cuDNN: {}: {}{}{}", what, backend.error_text(status), *more != '\0' ? ": " : "", more)};
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

void Descriptors::finalize(Descriptor at, const char* what) {
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

void Graph::matmul(Descriptor a, Descriptor b, Descriptor c) {
  const Descriptor matmul = descriptors_.make(kMatmul);
  descriptors_.set(matmul, kMatmulType, kDataTypeValue, kFloat);
  descriptors_.finalize(matmul, "product");
  const Descriptor operation = descriptors_.make(kMatmulOperation);
  descriptors_.set(operation, kMatmulA, kDescriptorValue, a);
  descriptors_.set(operation, kMatmulB, kDescriptorValue, b);
  descriptors_.set(operation, kMatmulC, kDescriptorValue, c);
  descriptors_.set(operation, kMatmulDescriptor, kDescriptorValue, matmul);
  descriptors_.finalize(operation, "product's operation");
  operations_.push_back(operation);
}

void Graph::pointwise(PointwiseMode mode, DataType precision, Descriptor x, Descriptor b, Descriptor y,
                      Descriptor t) {
  const Descriptor pointwise = descriptors_.make(kPointwise);
  descriptors_.set(pointwise, kPointwiseMode, kPointwiseModeValue, mode);
  descriptors_.set(pointwise, kPointwisePrecision, kDataTypeValue, precision);
  descriptors_.finalize(pointwise, "pointwise");
  const Descriptor operation = descriptors_.make(kPointwiseOperation);
  descriptors_.set(operation, kPointwiseDescriptor, kDescriptorValue, pointwise);
  descriptors_.set(operation, kPointwiseX, kDescriptorValue, x);
  if (b != nullptr) descriptors_.set(operation, kPointwiseB, kDescriptorValue, b);
  if (t != nullptr) descriptors_.set(operation, kPointwiseT, kDescriptorValue, t);
  descriptors_.set(operation, kPointwiseY, kDescriptorValue, y);
  descriptors_.finalize(operation, "pointwise operation");
  operations_.push_back(operation);
}

void Graph::index(std::int64_t axis, Descriptor x, Descriptor y) {
  const Descriptor pointwise = descriptors_.make(kPointwise);
  descriptors_.set(pointwise, kPointwiseMode, kPointwiseModeValue, kGenIndex);
  descriptors_.set(pointwise, kPointwisePrecision, kDataTypeValue, kInt32);
  descriptors_.set(pointwise, kPointwiseAxis, kInt64Value, axis);
  descriptors_.finalize(pointwise, "index");
  const Descriptor operation = descriptors_.make(kPointwiseOperation);
  descriptors_.set(operation, kPointwiseDescriptor, kDescriptorValue, pointwise);
  descriptors_.set(operation, kPointwiseX, kDescriptorValue, x);
  descriptors_.set(operation, kPointwiseY, kDescriptorValue, y);
  descriptors_.finalize(operation, "index operation");
  operations_.push_back(operation);
}

void Graph::reduce(ReductionMode mode, Descriptor x, Descriptor y) {
  const Descriptor reduction = descriptors_.make(kReduction);
  descriptors_.set(reduction, kReductionMode, kReductionModeValue, mode);
  descriptors_.set(reduction, kReductionType, kDataTypeValue, kFloat);
  descriptors_.finalize(reduction, "reduction");
  const Descriptor operation = descriptors_.make(kReductionOperation);
  descriptors_.set(operation, kReductionDescriptor, kDescriptorValue, reduction);
  descriptors_.set(operation, kReductionX, kDescriptorValue, x);
  descriptors_.set(operation, kReductionY, kDescriptorValue, y);
  descriptors_.finalize(operation, "reduction operation");
  operations_.push_back(operation);
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
