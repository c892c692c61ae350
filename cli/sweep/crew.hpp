#pragma once
// Who evaluates points: places that each take a task at a time, as text, and answer with texts. Processes of
// this machine (local_crew), or ranks of an MPI job (mpi_main.cpp).

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

namespace tessera::cli {

/// What a place said: one of a task's answers, its last, or that it is gone and why.
struct Answer {
  enum class Kind { more, last, gone };
  std::size_t place = 0;
  Kind kind = Kind::last;
  std::string text;
};

class Crew {
 public:
  Crew() = default;
  virtual ~Crew() = default;
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  virtual std::size_t places() const = 0;
  /// `place` must be free.
  virtual void give(std::size_t place, const std::string& task) = 0;
  /// Waits for an answer. After `gone` the place is free again: another has taken it.
  virtual Answer wait() = 0;
};

/// Does a task and says its answers: all but the last by `more`, the last by returning it.
using Work =
    std::function<std::string(const std::string& task, const std::function<void(const std::string&)>& more)>;

/// `processes` forks of this one, each of which makes its own work by `prepare`. They die with this process.
std::unique_ptr<Crew> local_crew(std::size_t processes, std::function<Work()> prepare);

}  // namespace tessera::cli
