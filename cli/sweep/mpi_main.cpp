// tessera under MPI: rank 0 obeys the command line, the other ranks evaluate points of its sweep.

#include <boost/mpi.hpp>
#include <cstdio>
#include <cstdlib>
#include <systemc>

#include "cli/command_line.hpp"
#include "cli/sweep/conduct.hpp"

namespace tessera::cli {

namespace {

namespace mpi = boost::mpi;

enum Tag : int { task_tag, more_tag, last_tag, end_tag };

class MpiCrew : public Crew {
 public:
  explicit MpiCrew(mpi::communicator& world) : world_{world} {}
  ~MpiCrew() override {
    for (int rank = 1; rank < world_.size(); ++rank) world_.send(rank, end_tag, std::string{});
  }
  std::size_t places() const override { return static_cast<std::size_t>(world_.size()) - 1; }
  void give(std::size_t place, const std::string& task) override {
    world_.send(static_cast<int>(place) + 1, task_tag, task);
  }
  Answer wait() override {
    const mpi::status status = world_.probe(mpi::any_source, mpi::any_tag);
    Answer answer{.place = static_cast<std::size_t>(status.source()) - 1,
                  .kind = status.tag() == more_tag ? Answer::Kind::more : Answer::Kind::last};
    world_.recv(status.source(), status.tag(), answer.text);
    return answer;
  }

 private:
  mpi::communicator& world_;
};

void work_for(mpi::communicator& world, const Sweep& sweep, const std::vector<Point>& points) {
  const Work work = sweep_work(sweep, points);
  for (;;) {
    std::string task;
    const mpi::status status = world.recv(0, mpi::any_tag, task);
    if (status.tag() == end_tag) return;
    const std::string last = work(task, [&](const std::string& text) { world.send(0, more_tag, text); });
    world.send(0, last_tag, last);
  }
}

int run(int argc, char** argv) {
  mpi::environment environment{argc, argv};
  mpi::communicator world;
  const MakeCrew make_crew = [&](const Sweep& sweep, const std::vector<Point>& points,
                                 std::size_t jobs) -> std::unique_ptr<Crew> {
    if (world.size() == 1) return local_crew(jobs, [&] { return sweep_work(sweep, points); });
    if (world.rank() == 0) return std::make_unique<MpiCrew>(world);
    work_for(world, sweep, points);
    return nullptr;
  };
  // All ranks read the same files and would say the same of them: rank 0 speaks.
  if (world.rank() != 0 && std::freopen("/dev/null", "w", stderr) == nullptr) return 1;
  const int code = run_command_line(argc, argv, make_crew);
  if (code != 0 && world.size() > 1) environment.abort(code);
  return code;
}

}  // namespace

}  // namespace tessera::cli

int sc_main(int argc, char* argv[]) { return tessera::cli::run(argc, argv); }

int main(int argc, char* argv[]) {
  setenv("SYSTEMC_DISABLE_COPYRIGHT_MESSAGE", "1", 1);
  return sc_core::sc_elab_and_sim(argc, argv);
}
