#include "cli/sweep/conduct.hpp"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <sstream>

#include "cli/progress.hpp"
#include "cli/sweep/evaluate.hpp"
#include "cli/sweep/pareto.hpp"
#include "cli/sweep/search.hpp"

namespace tessera::cli {

namespace {

/// Points that one member does at one go, or a search.
struct Batch {
  bool cycle = false;
  std::vector<std::int64_t> ids;
  std::int64_t search = -1;
};

std::vector<Row> rows_in(const std::string& text) {
  std::vector<Row> rows;
  std::istringstream lines{text};
  for (std::string line; std::getline(lines, line);) rows.push_back(row_from(line));
  return rows;
}

class Conductor {
 public:
  Conductor(const Sweep& sweep, const std::vector<Point>& points, Store& store, Crew& crew)
      : sweep_{sweep}, store_{store}, crew_{crew}, at_work_(crew.places()) {
    for (const Point& p : points) points_[p.id] = &p;
  }

  /// Evaluates the points that the store lacks at this fidelity.
  void evaluate(const std::vector<std::int64_t>& ids, bool cycle, const char* what) {
    const auto known = store_.known();
    std::vector<std::int64_t> lacking;
    for (const std::int64_t id : ids) {
      if (known.count({cycle ? "cycle" : "cost", id}) == 0) lacking.push_back(id);
    }
    // Many at a time save messages; few at the end keep all members busy. Each simulation is handed out
    // alone.
    const std::size_t most =
        cycle ? 1 : std::clamp<std::size_t>(lacking.size() / (8 * crew_.places()), 1, 16);
    std::deque<Batch> batches;
    for (std::size_t i = 0; i < lacking.size(); i += most) {
      const auto first = lacking.begin() + static_cast<std::ptrdiff_t>(i);
      const auto last = lacking.begin() + static_cast<std::ptrdiff_t>(std::min(i + most, lacking.size()));
      batches.push_back({.cycle = cycle, .ids = {first, last}});
    }
    run(std::move(batches), lacking.size(), what);
  }

  void search(const std::vector<std::int64_t>& numbers) {
    std::deque<Batch> batches;
    for (const std::int64_t number : numbers) batches.push_back({.search = number});
    run(std::move(batches), static_cast<std::size_t>(sweep_.design.evaluations) * numbers.size(), "search");
  }

 private:
  void give(std::size_t place, const Batch& batch) {
    Json task{{"cycle", batch.cycle}, {"ids", batch.ids}, {"search", batch.search}};
    if (batch.search >= 0) {
      // What an interrupted search has found it need not find again.
      task["known"] = Json::array();
      for (const Row& row : store_.rows()) {
        if (row.id / sweep_.design.evaluations == batch.search) task["known"].push_back(to_text(row));
      }
    }
    crew_.give(place, task.dump());
    at_work_[place] = batch;
  }

  void run(std::deque<Batch> batches, std::size_t total, const char* what) {
    Progress progress;
    std::size_t done = 0, busy = 0;
    const auto record = [&](const std::vector<Row>& rows) {
      store_.add(rows);
      done += rows.size();
      if (total > 0)
        progress.update({done, total, static_cast<double>(done) / static_cast<double>(total), what});
    };
    while (!batches.empty() || busy > 0) {
      for (std::size_t place = 0; place < crew_.places() && !batches.empty(); ++place) {
        if (at_work_[place]) continue;
        give(place, batches.front());
        batches.pop_front();
        ++busy;
      }
      const Answer answer = crew_.wait();
      std::optional<Batch>& batch = at_work_[answer.place];
      if (answer.kind == Answer::Kind::gone) {
        if (!batch) continue;  // nothing was lost
        if (batch->search >= 0) {
          throw std::runtime_error{fmt::format("search {}: {}", batch->search, answer.text)};
        } else if (batch->ids.size() == 1) {
          record({failed(batch->ids.front(), batch->cycle, answer.text)});
        } else {  // one of them did it: each alone
          for (const std::int64_t id : batch->ids) batches.push_front({.cycle = batch->cycle, .ids = {id}});
        }
      } else {
        record(rows_in(answer.text));
        if (answer.kind == Answer::Kind::more) continue;
      }
      batch.reset();
      --busy;
    }
  }

  Row failed(std::int64_t id, bool cycle, const std::string& why) const {
    Row row{.id = id,
            .fidelity = cycle ? "cycle" : "cost",
            .axes = Json::object(),
            .status = "failed",
            .error = why};
    for (const auto& [key, value] : points_.at(id)->axes) row.axes[key] = value;
    return row;
  }

  const Sweep& sweep_;
  Store& store_;
  Crew& crew_;
  std::map<std::int64_t, const Point*> points_;
  std::vector<std::optional<Batch>> at_work_;
};

}  // namespace

Work sweep_work(const Sweep& sweep, const std::vector<Point>& points) {
  // A point takes megabytes and gives them back; the next one takes them again. Given to the kernel and
  // fetched each time they were a tenth of the work.
  mallopt(M_MMAP_THRESHOLD, 1 << 29);
  mallopt(M_TRIM_THRESHOLD, 1 << 29);
  const auto evaluator = std::make_shared<Evaluator>(sweep);
  const auto by_id = std::make_shared<std::map<std::int64_t, const Point*>>();
  for (const Point& p : points) by_id->emplace(p.id, &p);
  return [&sweep, evaluator, by_id](const std::string& text,
                                    const std::function<void(const std::string&)>& more) {
    const Json task = Json::parse(text);
    if (const std::int64_t number = task.at("search"); number >= 0) {
      std::map<std::int64_t, Row> known;
      for (const Json& line : task.at("known")) {
        Row row = row_from(line.get<std::string>());
        known.emplace(row.id, std::move(row));
      }
      run_search(sweep, number, known, *evaluator, [&](const Row& row) { more(to_text(row)); });
      return std::string{};
    }
    std::string answer;
    for (const std::int64_t id : task.at("ids"))
      answer += to_text(evaluator->evaluate(*by_id->at(id), task.at("cycle").get<bool>())) + "\n";
    return answer;
  };
}

void conduct(const Sweep& sweep, const std::vector<Point>& points, Shard shard, Store& store, Crew& crew) {
  Conductor conductor{sweep, points, store, crew};
  if (sweep.design.method == DesignMethod::search) {
    std::vector<std::int64_t> numbers;
    for (std::int64_t n = shard.index; n < sweep.design.weights; n += shard.count) numbers.push_back(n);
    conductor.search(numbers);
    return;
  }
  std::vector<std::int64_t> ids;
  for (const Point& p : points) {
    if (p.id % shard.count == shard.index) ids.push_back(p.id);
  }
  if (sweep.fidelity == SweepFidelity::cycle) return conductor.evaluate(ids, true, "cycle model");
  conductor.evaluate(ids, false, "cost model");
  if (sweep.fidelity == SweepFidelity::cost || shard.count > 1) return;
  std::vector<Row> rows = store.rows();
  std::erase_if(rows, [](const Row& row) { return row.fidelity != "cost"; });
  std::vector<std::int64_t> front;
  for (const std::size_t r : pareto_front(rows, sweep.objectives)) front.push_back(rows[r].id);
  conductor.evaluate(with_neighbours(sweep, points, front), true, "cycle model, on the front and beside it");
}

}  // namespace tessera::cli
