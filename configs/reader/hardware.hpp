#pragma once
// GPUs and fabrics from their YAML files. Every number there is {value: N, source: "..."}: a number without
// a source is an error. Keys are the field names of sim/core/hardware.hpp.

#include <filesystem>

#include "configs/reader/document.hpp"
#include "sim/core/hardware.hpp"
#include "sim/core/manufacture.hpp"

namespace tessera::config {

/// Throw InputError at file, line and key of what is missing, unknown, unsourced, out of range or
/// inconsistent.
GpuSpec read_gpu(const std::filesystem::path& file);
FabricSpec read_fabric(const std::filesystem::path& file);
/// The same from a document that may have been changed since it was read (`--set`).
GpuSpec read_gpu(const Document& document);
FabricSpec read_fabric(const Document& document);
/// What the GPU is made of and what that costs; die_mm2 = 0 if its file does not say.
ManufactureSpec read_manufacture(const Document& document);

}  // namespace tessera::config
