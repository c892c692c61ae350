#pragma once
// Measured kernels of linear attention, out of aiconfigurator's layout.

#include <optional>

#include "validate/csv.hpp"
#include "validate/measurement.hpp"

namespace tessera::validate {

/// The table's header is that of aiconfigurator's KDA file.
bool is_linear(const CsvTable& table);
/// A row's operator and arguments; none for a kernel that is not simulated. InputError for a bad row.
std::optional<Measurement> linear_row(const CsvRow& row);

}  // namespace tessera::validate
