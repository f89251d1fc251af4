#include "kernels/cpu/numa.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/check.h"

namespace mole::kernels {
namespace {

std::optional<int32_t> number(std::string_view text) {
  int32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

// The N of "node<N>".
std::optional<int32_t> node_number(std::string_view name) {
  constexpr std::string_view kPrefix = "node";
  return name.starts_with(kPrefix) ? number(name.substr(kPrefix.size())) : std::nullopt;
}

std::optional<cpu_set_t> cpus_of(const std::filesystem::path& node) {
  std::ifstream file(node / "cpulist");
  std::string list;
  if (!std::getline(file, list)) return std::nullopt;
  return parse_cpu_list(list);
}

std::vector<NumaNode> machine_nodes() {
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return {};
  return read_numa_nodes("/sys/devices/system/node", usable);
}

std::vector<NumaNode>& slot() {
  static std::vector<NumaNode> nodes = machine_nodes();
  return nodes;
}

}  // namespace

std::optional<cpu_set_t> parse_cpu_list(std::string_view list) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  while (!list.empty()) {
    const std::string_view range = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), range.size() + 1));
    const std::size_t dash = range.find('-');
    const auto first = number(range.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number(range.substr(dash + 1));
    if (!first || !last || *last < *first || *last >= CPU_SETSIZE) return std::nullopt;
    for (int32_t cpu = *first; cpu <= *last; ++cpu) CPU_SET(static_cast<size_t>(cpu), &cpus);
  }
  return cpus;
}

std::vector<NumaNode> read_numa_nodes(const std::string& folder, const cpu_set_t& usable) {
  std::map<int32_t, NumaNode> nodes;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const auto id = node_number(entry.path().filename().string());
    if (!id) continue;
    auto cpus = cpus_of(entry.path());
    if (!cpus) return {};
    NumaNode node;
    CPU_AND(&node.cpus, &*cpus, &usable);
    node.num_cpus = CPU_COUNT(&node.cpus);
    if (node.num_cpus > 0) nodes.emplace(*id, node);  // a node may have memory only
  }
  std::vector<NumaNode> ordered;
  for (const auto& [id, node] : nodes) ordered.push_back(node);
  return ordered;
}

const std::vector<NumaNode>& numa_nodes() { return slot(); }

void set_numa_nodes_for_test(std::vector<NumaNode> nodes) { slot() = std::move(nodes); }

size_t numa_node_of(const std::vector<NumaNode>& nodes, int32_t worker, int32_t workers) {
  MOLE_CHECK(!nodes.empty());
  int64_t cpus = 0;
  for (const NumaNode& node : nodes) cpus += node.num_cpus;
  // The CPU at the middle of the worker's share of all CPUs, counted through the nodes.
  int64_t at = (2 * int64_t{worker} + 1) * cpus / (2 * int64_t{workers});
  size_t node = 0;
  while (node + 1 < nodes.size() && at >= nodes[node].num_cpus) at -= nodes[node++].num_cpus;
  return node;
}

void stay_on_numa_node(int32_t worker, int32_t workers) {
  const std::vector<NumaNode>& nodes = numa_nodes();
  if (nodes.size() < 2) return;
  const NumaNode& node = nodes[numa_node_of(nodes, worker, workers)];
  (void)sched_setaffinity(0, sizeof node.cpus, &node.cpus);
}

}  // namespace mole::kernels
