#pragma once
// Counters of a simulation, by hierarchical name ("gpu0.l2.hit_sectors"), in name order.

#include <cstdint>
#include <map>
#include <string>

namespace tessera::sim {

class Statistics {
 public:
  void add(const std::string& name, double amount) { values_[name] += amount; }
  double value(const std::string& name) const {
    const auto it = values_.find(name);
    return it == values_.end() ? 0.0 : it->second;
  }
  const std::map<std::string, double>& all() const { return values_; }

 private:
  std::map<std::string, double> values_;
};

}  // namespace tessera::sim
