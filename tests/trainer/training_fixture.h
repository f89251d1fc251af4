// A tiny run: prose made by a seeded grammar, its tokenizer and shards, and the configuration of a
// two-layer MLA + MoE model. Everything is small enough that a run takes a second.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/trainer/test_folder.h"
#include "trainer/config.h"

namespace mole::trainer {

/// About `sentences` * 40 bytes of text, one document of 20 sentences a paragraph, the same each
/// time.
std::string fixture_text(int sentences, uint64_t seed);

/// Trains the tokenizer and writes the shards into `folder`/tokenizer and `folder`/tokens.
void prepare_fixture(const std::filesystem::path& folder);

/// The configuration of a run in `folder`/`name` over what prepare_fixture wrote.
TrainConfig fixture_config(const std::filesystem::path& folder, const std::string& name);

}  // namespace mole::trainer
