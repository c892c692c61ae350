#include "cli/sweep/crew.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "sim/system/child_process.hpp"

namespace tessera::cli {

namespace {

/// A message on a socket: its kind, its length, its text. False at the end of the stream.
bool write_all(int socket, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = send(socket, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

bool read_all(int socket, char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = recv(socket, data, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

struct Header {
  std::uint64_t last = 0, size = 0;
};

bool write_message(int socket, bool last, const std::string& text) {
  const Header header{last ? 1U : 0U, text.size()};
  return write_all(socket, reinterpret_cast<const char*>(&header), sizeof header) &&
         write_all(socket, text.data(), text.size());
}

std::optional<std::pair<bool, std::string>> read_message(int socket) {
  Header header;
  if (!read_all(socket, reinterpret_cast<char*>(&header), sizeof header)) return std::nullopt;
  std::string text(header.size, '\0');
  if (!read_all(socket, text.data(), text.size())) return std::nullopt;
  return std::pair{header.last != 0, std::move(text)};
}

class LocalCrew : public Crew {
 public:
  LocalCrew(std::size_t processes, std::function<Work()> prepare)
      : prepare_{std::move(prepare)}, members_(processes) {
    for (std::size_t place = 0; place < processes; ++place) hire(place);
  }
  ~LocalCrew() override {
    for (Member& m : members_) {
      close(m.socket);
      kill(m.process, SIGKILL);  // idle, or at work that nobody will ask for
      (void)sim::status_of(m.process);
    }
  }

  std::size_t places() const override { return members_.size(); }
  void give(std::size_t place, const std::string& task) override {
    // One that died meanwhile is noticed at wait().
    (void)write_message(members_[place].socket, true, task);
  }
  Answer wait() override {
    std::vector<pollfd> sockets;
    for (const Member& m : members_) sockets.push_back({m.socket, POLLIN, 0});
    for (;;) {
      if (poll(sockets.data(), sockets.size(), -1) > 0) break;
      if (errno != EINTR) throw std::system_error{errno, std::generic_category(), "poll"};
    }
    // In turn, so that none waits for long.
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      const std::size_t place = (next_ + i) % sockets.size();
      if (sockets[place].revents == 0) continue;
      next_ = place + 1;
      if (auto message = read_message(members_[place].socket))
        return {place, message->first ? Answer::Kind::last : Answer::Kind::more, std::move(message->second)};
      return {place, Answer::Kind::gone, replace(place)};
    }
    throw std::logic_error{"poll named no socket"};
  }

 private:
  struct Member {
    pid_t process = 0;
    int socket = -1;
  };

  void hire(std::size_t place) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      throw std::system_error{errno, std::generic_category(), "socketpair"};
    const pid_t child = sim::start_child([&] {
      close(ends[0]);
      for (const Member& m : members_) {
        if (m.socket >= 0) close(m.socket);  // else its end would not be seen
      }
      const Work work = prepare_();
      while (const auto task = read_message(ends[1])) {
        const std::string last =
            work(task->second, [&](const std::string& text) { (void)write_message(ends[1], false, text); });
        if (!write_message(ends[1], true, last)) break;
      }
    });
    close(ends[1]);
    members_[place] = {child, ends[0]};
  }

  /// Says why a member died, and hires another.
  std::string replace(std::size_t place) {
    Member& m = members_[place];
    close(m.socket);
    m.socket = -1;
    const int status = sim::status_of(m.process);
    hire(place);
    return WIFSIGNALED(status) ? fmt::format("the worker died: {}", strsignal(WTERMSIG(status)))
                               : fmt::format("the worker ended with code {}", WEXITSTATUS(status));
  }

  std::function<Work()> prepare_;
  std::vector<Member> members_;
  std::size_t next_ = 0;
};

}  // namespace

std::unique_ptr<Crew> local_crew(std::size_t processes, std::function<Work()> prepare) {
  return std::make_unique<LocalCrew>(processes, std::move(prepare));
}

}  // namespace tessera::cli
