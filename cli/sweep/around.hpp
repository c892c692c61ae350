#pragma once
// Sensitivity: one hardware parameter at a time a little down and up, and what that does to a run.

#include <filesystem>
#include <string>
#include <vector>

#include "cli/sweep/row.hpp"
#include "cli/sweep/sweep.hpp"

namespace tessera::cli {

/// One parameter: points 2i + 1 (down) and 2i + 2 (up); point 0 is the experiment as it stands.
struct Parameter {
  std::string key;  ///< "comp l2.bytes": whose, and its key there
  double value = 0;
  double down = 0, up = 0;
};

struct Around {
  Sweep sweep;
  std::vector<Point> points;
  std::vector<Parameter> parameters;
  double step = 0;
};

/// Every number of the GPUs and of the fabric, changed by `step` (0.05: 5 %); whole numbers by 1 at least. A
/// GPU that CompNodes and AttnNodes share is changed for both. Of gpc_sms, each GPC has an SM fewer or more.
Around around(const std::filesystem::path& experiment, const std::vector<std::string>& overrides,
              double step);

struct Sensitivity {
  Parameter parameter;
  double down_percent = 0,
         up_percent = 0;  ///< change of the metric, scaled (in logarithms) to one `step` each way
  double elasticity = 0;  ///< d ln metric / d ln parameter
  std::string missing;    ///< why one side, or both, could not be run
};

/// Strongest first; those that could not be run last.
std::vector<Sensitivity> sensitivities(const Around& around, const std::vector<Row>& rows,
                                       const std::string& metric);

Json to_json(const std::vector<Sensitivity>& all, const Row& base, const std::string& metric);
/// A page with a tornado chart of the strongest.
std::string to_html(const std::vector<Sensitivity>& all, const Row& base, const std::string& metric,
                    const std::string& experiment, double step, const std::string& library);

}  // namespace tessera::cli
