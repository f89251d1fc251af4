#include "trainer/commands.h"

#include <iostream>

#include "base/options.h"

namespace mole::trainer {

int report(const std::string& command, const Status& status) {
  std::cerr << "trainer " << command << ": " << status.message() << "\n";
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kAlreadyExists:
      return kExitConfiguration;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kDataLoss:
      return kExitModel;
    default:
      return kExitFailure;
  }
}

}  // namespace mole::trainer
