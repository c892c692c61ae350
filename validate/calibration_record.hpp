#pragma once
// What a hardware file keeps of its calibration.

#include <map>
#include <string>

#include "configs/reader/calibration.hpp"
#include "validate/comparison.hpp"

namespace tessera::validate {

/// Errors of held-out predictions. log_sd with n - 1.
config::HeldOut held_out_of(const std::vector<const Compared*>& rows);

/// By kind and quoted set, with the range and the traits of the rows. The caller adds sample, seed, max_ms,
/// folds.
config::FidelityCalibration record_of(const Comparison& held_out);

/// 16 hexadecimal digits over kind, shape, conditions and measured time of every row, in order.
std::string rows_hash(const Comparison& comparison);

}  // namespace tessera::validate
