#pragma once
// GPUs and fabrics from their YAML files. Every number there is {value: N, source: "..."}: a number without
// a source is an error. Keys are the field names of sim/core/hardware.hpp.

#include <filesystem>

#include "sim/core/hardware.hpp"

namespace tessera::config {

/// Throw InputError at file, line and key of what is missing, unknown, unsourced, out of range or
/// inconsistent.
GpuSpec read_gpu(const std::filesystem::path& file);
FabricSpec read_fabric(const std::filesystem::path& file);

}  // namespace tessera::config
