// NUMA nodes: groups of CPUs with memory of their own. Where there are several, a worker stays with
// one of them, so that what it brought into its caches is not left behind.
#pragma once

#include <sched.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mole::kernels {

struct NumaNode {
  cpu_set_t cpus;
  int32_t num_cpus = 0;
};

/// The nodes in which this process may use CPUs, by ascending number, as `folder` (sysfs:
/// node<N>/cpulist) and `usable` say. Empty if the folder tells nothing.
std::vector<NumaNode> read_numa_nodes(const std::string& folder, const cpu_set_t& usable);
/// The machine's, read once.
const std::vector<NumaNode>& numa_nodes();
/// Replaces them for the rest of a test.
void set_numa_nodes_for_test(std::vector<NumaNode> nodes);

/// "0-3,8" as a set; none if it is no such list or names a CPU that no set can hold.
std::optional<cpu_set_t> parse_cpu_list(std::string_view list);

/// The node of worker `worker` of `workers`: neighbours together, as many on a node as it has of
/// the CPUs. Requires nodes.
size_t numa_node_of(const std::vector<NumaNode>& nodes, int32_t worker, int32_t workers);

/// Keeps the calling thread, worker `worker` of `workers`, on its node's CPUs, if there are several
/// nodes. What the system refuses stays as it was.
void stay_on_numa_node(int32_t worker, int32_t workers);

}  // namespace mole::kernels
