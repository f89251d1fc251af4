#include "kernels/cpu/numa.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include "kernels/cpu/thread_team.h"

namespace mole::kernels {
namespace {

std::vector<int> ids(const cpu_set_t& cpus) {
  std::vector<int> found;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<size_t>(cpu), &cpus)) found.push_back(cpu);
  }
  return found;
}

NumaNode node_of(std::string_view list) {
  NumaNode node;
  node.cpus = *parse_cpu_list(list);
  node.num_cpus = CPU_COUNT(&node.cpus);
  return node;
}

TEST(NumaTest, CpuLists) {
  EXPECT_EQ(ids(*parse_cpu_list("0-2,8,10-11")), (std::vector<int>{0, 1, 2, 8, 10, 11}));
  EXPECT_TRUE(ids(*parse_cpu_list("")).empty());  // a node of memory only
  for (const char* wrong : {"a", "3-1", "1-", "-1", "0,,1", "99999", "0-99999", "1 "}) {
    EXPECT_FALSE(parse_cpu_list(wrong).has_value()) << wrong;
  }
}

class NumaFolderTest : public ::testing::Test {
 protected:
  NumaFolderTest() {
    char name[] = "/tmp/mole_numa_XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~NumaFolderTest() override { std::filesystem::remove_all(folder_); }
  void add_node(const std::string& name, const std::string& list) {
    std::filesystem::create_directory(folder_ / name);
    std::ofstream(folder_ / name / "cpulist") << list << "\n";
  }
  std::filesystem::path folder_;
};

TEST_F(NumaFolderTest, NodesWithUsableCpusInOrder) {
  add_node("node10", "12-15");
  add_node("node2", "4-7");
  add_node("node0", "0-3");
  add_node("node3", "");       // memory only
  add_node("node4", "30-31");  // not ours
  add_node("power", "0");
  const auto nodes = read_numa_nodes(folder_, *parse_cpu_list("1-5,12"));
  ASSERT_EQ(nodes.size(), 3u);
  EXPECT_EQ(ids(nodes[0].cpus), (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(ids(nodes[1].cpus), (std::vector<int>{4, 5}));
  EXPECT_EQ(ids(nodes[2].cpus), (std::vector<int>{12}));
  EXPECT_EQ(nodes[0].num_cpus, 3);
}

TEST_F(NumaFolderTest, WhatCantBeReadTellsNothing) {
  EXPECT_TRUE(read_numa_nodes(folder_ / "missing", *parse_cpu_list("0")).empty());
  add_node("node0", "0");
  add_node("node1", "broken");
  EXPECT_TRUE(read_numa_nodes(folder_, *parse_cpu_list("0")).empty());
}

TEST(NumaTest, WorkersAreSharedOutByCpus) {
  const std::vector<NumaNode> nodes = {node_of("0-5"), node_of("6-7")};
  const auto placed = [&](int32_t workers) {
    std::vector<size_t> places;
    for (int32_t worker = 0; worker < workers; ++worker) {
      places.push_back(numa_node_of(nodes, worker, workers));
    }
    return places;
  };
  EXPECT_EQ(placed(8), (std::vector<size_t>{0, 0, 0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(placed(4), (std::vector<size_t>{0, 0, 0, 1}));
  EXPECT_EQ(placed(1), (std::vector<size_t>{0}));
  EXPECT_EQ(placed(16).back(), 1u);
}

// Two nodes of one CPU each: the first and the last of this process, which may be the same.
TEST(NumaTest, WorkersStayOnTheirNode) {
  cpu_set_t usable;
  ASSERT_EQ(sched_getaffinity(0, sizeof usable, &usable), 0);
  const std::vector<int> cpus = ids(usable);
  const NumaNode first = node_of(std::to_string(cpus.front()));
  const NumaNode last = node_of(std::to_string(cpus.back()));
  const std::vector<NumaNode> machine = numa_nodes();
  set_numa_nodes_for_test({first, last});
  {
    ThreadTeam team(2);
    const std::thread::id caller = std::this_thread::get_id();
    std::mutex mutex;
    bool helped = false;
    // Until the worker has taken a part: who is quicker takes it.
    while (!helped) {
      auto part = [&](int64_t, int64_t) {
        if (std::this_thread::get_id() == caller) return std::this_thread::yield();
        cpu_set_t now;
        const std::lock_guard lock(mutex);
        EXPECT_EQ(sched_getaffinity(0, sizeof now, &now), 0);
        EXPECT_EQ(ids(now), ids(last.cpus));
        helped = true;
      };
      team.parallel_for(4, 1, part);
    }
  }
  cpu_set_t after;
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_EQ(ids(after), cpus);  // the caller was not moved
  set_numa_nodes_for_test(machine);
}

}  // namespace
}  // namespace mole::kernels
