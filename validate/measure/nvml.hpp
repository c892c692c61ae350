#pragma once
// Clocks, power, temperature, ECC and versions from NVML, loaded at run time: without it these are not known,
// and nothing else is missing.

#include <memory>
#include <optional>
#include <string>

#include "validate/measure/device.hpp"

namespace tessera::measure {

class Nvml {
 public:
  /// The GPU at a PCI address such as "0000:3b:00.0". Nothing if there is no NVML or it does not know the
  /// GPU.
  static std::unique_ptr<Nvml> open(const std::string& pci_address);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::optional<Sensors> sensors() const;
  std::string driver() const;
  std::optional<bool> ecc() const;
  double power_limit_w() const;  ///< 0: not known

 private:
  struct Library;
  explicit Nvml(std::unique_ptr<Library> library);
  std::unique_ptr<Library> library_;
};

}  // namespace tessera::measure
