#pragma once
// The numbers of a hardware file as parameters: listed by dotted key, with what calibration may do to them.

#include <optional>
#include <string>
#include <vector>

#include "configs/reader/document.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::config {

/// A whole GPU has few fitted numbers: more would fit the measurements, not the machine.
inline constexpr std::size_t kMostFitted = 12;

struct Bounds {
  double low = 0, high = 0;
};

/// One {value, source} number of a hardware file, in the unit of its field in sim/core/hardware.hpp.
struct Parameter {
  std::string key;  ///< "l2.gpc_write_bytes_per_cycle"
  double value = 0;
  bool fitted = false;
  std::optional<Bounds> bounds;
  std::optional<double> standard_error;
};

/// Every number of the document that something runs on, in its order: not what `manufacture` costs.
std::vector<Parameter> parameters_of(const Document& document);

/// Checks `fitted`, `bounds` and `standard_error` of one {value, source} map. A value given by --set may lie
/// outside its bounds. InputError at what is wrong.
void check_fit(const Value& leaf);
/// InputError at the first fitted number beyond kMostFitted.
void check_fitted_count(const Document& document);

/// The GPU with the numbers `keys` set to `values`, which `document` keeps. InputError as read_gpu.
GpuSpec gpu_with(Document& document, const std::vector<std::string>& keys, const std::vector<double>& values);

/// A text that is equal for equal hardware: 16 hexadecimal digits over every value, not over the sources, the
/// names, the price, the manufacture and the calibration.
std::string values_hash(const Document& document);

}  // namespace tessera::config
