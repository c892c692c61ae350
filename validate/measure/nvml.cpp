#include "validate/measure/nvml.hpp"

#include <dlfcn.h>

namespace tessera::measure {

// As NVML's API reference has them (docs.nvidia.com/deploy/nvml-api): 0 is success, devices are opaque.
struct Nvml::Library {
  void* handle = nullptr;
  void* device = nullptr;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*by_pci)(const char*, void**) = nullptr;
  int (*clock)(void*, int, unsigned*) = nullptr;
  int (*power)(void*, unsigned*) = nullptr;
  int (*power_limit)(void*, unsigned*) = nullptr;
  int (*temperature)(void*, int, unsigned*) = nullptr;
  int (*ecc)(void*, int*, int*) = nullptr;
  int (*driver)(char*, unsigned) = nullptr;

  ~Library() {
    if (device != nullptr) shutdown();
    if (handle != nullptr) ::dlclose(handle);
  }
  template <class F>
  bool find(const char* name, F& function) {
    function = reinterpret_cast<F>(::dlsym(handle, name));
    return function != nullptr;
  }
};

namespace {

constexpr int kSmClock = 1, kMemoryClock = 2, kGpuTemperature = 0;

}  // namespace

Nvml::Nvml(std::unique_ptr<Library> library) : library_{std::move(library)} {}
Nvml::~Nvml() = default;

std::unique_ptr<Nvml> Nvml::open(const std::string& pci_address) {
  auto l = std::make_unique<Library>();
  l->handle = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (l->handle == nullptr) return nullptr;
  if (!l->find("nvmlInit_v2", l->init) || !l->find("nvmlShutdown", l->shutdown) ||
      !l->find("nvmlDeviceGetHandleByPciBusId_v2", l->by_pci) ||
      !l->find("nvmlDeviceGetClockInfo", l->clock) || !l->find("nvmlDeviceGetPowerUsage", l->power) ||
      !l->find("nvmlDeviceGetEnforcedPowerLimit", l->power_limit) ||
      !l->find("nvmlDeviceGetTemperature", l->temperature) || !l->find("nvmlDeviceGetEccMode", l->ecc) ||
      !l->find("nvmlSystemGetDriverVersion", l->driver))
    return nullptr;
  if (l->init() != 0) return nullptr;
  if (l->by_pci(pci_address.c_str(), &l->device) != 0) {
    l->device = nullptr;
    l->shutdown();
    return nullptr;
  }
  return std::unique_ptr<Nvml>{new Nvml{std::move(l)}};
}

std::optional<Sensors> Nvml::sensors() const {
  unsigned sm = 0, memory = 0, milliwatts = 0, celsius = 0;
  const Library& l = *library_;
  if (l.clock(l.device, kSmClock, &sm) != 0 || l.clock(l.device, kMemoryClock, &memory) != 0 ||
      l.power(l.device, &milliwatts) != 0 || l.temperature(l.device, kGpuTemperature, &celsius) != 0)
    return std::nullopt;
  return Sensors{.sm_mhz = static_cast<double>(sm),
                 .memory_mhz = static_cast<double>(memory),
                 .power_w = milliwatts * 1e-3,
                 .temperature_c = static_cast<double>(celsius)};
}

std::string Nvml::driver() const {
  char text[96] = {};
  return library_->driver(text, sizeof text - 1) == 0 ? text : "";
}

std::optional<bool> Nvml::ecc() const {
  int current = 0, pending = 0;
  if (library_->ecc(library_->device, &current, &pending) != 0) return std::nullopt;
  return current == 1;
}

double Nvml::power_limit_w() const {
  unsigned milliwatts = 0;
  return library_->power_limit(library_->device, &milliwatts) == 0 ? milliwatts * 1e-3 : 0;
}

}  // namespace tessera::measure
