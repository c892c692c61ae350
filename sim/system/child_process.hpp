#pragma once
// Processes forked from this one: a simulation each, as SystemC allows one in a process.

#include <sys/types.h>

#include <functional>
#include <string_view>

namespace tessera::sim {

/// Forks. The child does `work` and is gone, without running destructors: with code 0, or 1 if it throws. It
/// is killed if this process dies. Throws std::system_error if there can be no other process.
pid_t start_child(const std::function<void()>& work);

/// Waits until it has ended; returns its status as waitpid(2) does.
int status_of(pid_t child);

/// All of it; false if it cannot be written, as nobody reads.
bool write_all(int fd, std::string_view text);

}  // namespace tessera::sim
