#pragma once
// Readers of operator traces. Both may be gzip. Throw config::InputError at file and line or offset.

#include <filesystem>
#include <memory>
#include <string>

#include "traces/input/byte_source.hpp"
#include "traces/operators/operator_trace.hpp"

namespace tessera::traces {

/// MLCommons Chakra execution trace (.et): a GlobalMetadata message and then Node messages, each behind its
/// length; mlcommons/chakra @ 6dc63e14, schema/protobuf/et_def.proto. Nodes keep their data and control
/// dependencies; a node that depends on one that is not in the file loses that dependency (counted).
OperatorTrace read_chakra(std::unique_ptr<ByteSource> source, const std::string& name);

/// PyTorch profiler (Kineto) Chrome trace: `traceEvents` of complete events ("X"), times in us. Kernels are
/// joined to the operators that launched them by "External id". A kernel follows the one before it on its
/// stream, and on every other stream the last one that had ended when it started. Host time stays as
/// recorded, as the delay before the kernels that waited for it. The file is read once; memory grows with its
/// kernels and operators.
OperatorTrace read_kineto(std::unique_ptr<ByteSource> source, const std::string& name);

enum class OperatorFormat : std::uint8_t { chakra, kineto };
/// By how the content begins: '{' or '[' is JSON.
OperatorFormat operator_format(const std::filesystem::path& file);
OperatorTrace read_operators(const std::filesystem::path& file);

}  // namespace tessera::traces
