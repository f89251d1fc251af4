// The arithmetic and the indices of the CUDA kernels, run on the host: the same bits as the CPU
// kernels, every element exactly once. What a GPU adds (launch, shuffles) needs a GPU.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "kernels/cases/ceilings.h"
#include "kernels/cases/tensor.h"
#include "kernels/cuda/device_math.h"
#include "kernels/cuda/launch_index.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/silu_mul/silu_mul.h"

namespace mole::kernels {
namespace {

TEST(CudaEmulation, ExpHasTheBitsOfTheCpu) {
  std::vector<float> x, y;
  // Not below -87: there the result is denormal, which the host in this test keeps and a device
  // flushes.
  for (int i = -87 * 512; i <= 90 * 512; ++i) x.push_back(static_cast<float>(i) / 512);
  x.push_back(-INFINITY);
  x.push_back(INFINITY);
  y.resize(x.size());
  avx2::probe_exp(x.data(), y.data(), static_cast<int64_t>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(device::exp_f32(x[i])), std::bit_cast<uint32_t>(y[i]))
        << x[i];
  }
}

TEST(CudaEmulation, RoundingIsThatOfTheBase) {
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 65521 / 16) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    BFloat16 rounded;
    device::narrow(&rounded, value);
    ASSERT_EQ(rounded.bits, to_bfloat16(value).bits) << bits;
  }
}

template <typename T>
void silu_mul_agrees(DType dtype) {
  constexpr int64_t kRows = 5, kWidth = 37;
  CaseRandom random(1);
  ThreadTeam team(1);
  Tensor gate_up(dtype, kRows, 2 * kWidth), want(dtype, kRows, kWidth), got = want;
  gate_up.fill_normal(random, 3);
  silu_mul({.gate_up = gate_up.data(),
            .in_dtype = dtype,
            .rows = kRows,
            .width = kWidth,
            .y = want.data(),
            .out_dtype = dtype},
           team);
  for (int64_t i = 0; i < kRows * kWidth; ++i) {
    const T* gate = gate_up.as<T>() + i / kWidth * 2 * kWidth + i % kWidth;
    device::narrow(got.as<T>() + i,
                   device::silu_mul(device::widen(gate[0]), device::widen(gate[kWidth])));
  }
  EXPECT_TRUE(got.bytes() == want.bytes());
}

TEST(CudaEmulation, SiluMulHasTheBitsOfTheCpu) {
  silu_mul_agrees<float>(DType::kFloat32);
  silu_mul_agrees<BFloat16>(DType::kBFloat16);
}

template <typename T>
void rms_norm_agrees(DType dtype, int64_t rows, int64_t dim) {
  CaseRandom random(2);
  ThreadTeam team(1);
  Tensor x(dtype, rows, dim, dim + 3), weight(dtype, 1, dim), want(dtype, rows, dim), got = want;
  x.fill_normal(random);
  weight.fill_normal(random);
  RmsNormArgs args{.x = x.data(), .weight = weight.data(), .y = want.data(), .dtype = dtype};
  args.rows = rows;
  args.dim = dim;
  args.x_stride = dim + 3;
  args.y_stride = dim;
  rms_norm(args, team);
  std::vector<float> chains(static_cast<std::size_t>(rows * device::kLanes), NAN);
  const int64_t blocks = device::blocks_for(rows, device::kRowsPerBlock);
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t thread = 0; thread < device::kThreads; ++thread) {
      const device::RowLane place = device::row_lane(block, thread);
      if (place.row >= rows) continue;
      float& chain = chains[static_cast<std::size_t>(place.row * device::kLanes + place.lane)];
      EXPECT_TRUE(std::isnan(chain)) << "a chain summed twice";
      chain = device::square_chain(x.as<T>() + place.row * (dim + 3), dim, place.lane);
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    float* lanes = chains.data() + row * device::kLanes;
    for (int width = device::kLanes / 2; width >= 1; width /= 2) {
      for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    }
    const float inverse = device::inverse_rms(lanes[0], dim, args.eps);
    for (int64_t i = 0; i < dim; ++i) {
      const float normed = device::widen(x.as<T>()[row * (dim + 3) + i]) * inverse;
      device::narrow(got.as<T>() + row * dim + i, normed * device::widen(weight.as<T>()[i]));
    }
  }
  EXPECT_TRUE(got.bytes() == want.bytes()) << rows << " rows, dim " << dim;
}

TEST(CudaEmulation, RmsNormHasTheBitsOfTheCpu) {
  for (const int64_t rows : {1, 15, 16, 17, 40}) {
    for (const int64_t dim : {1, 16, 33, 200}) {
      rms_norm_agrees<float>(DType::kFloat32, rows, dim);
      rms_norm_agrees<BFloat16>(DType::kBFloat16, rows, dim);
    }
  }
}

void rope_agrees(RopeLayout layout) {
  constexpr int64_t kRows = 7, kHeads = 3, kPairs = 20, kDim = 2 * kPairs;
  CaseRandom random(3);
  ThreadTeam team(1);
  std::vector<double> frequencies;
  for (int64_t i = 0; i < kPairs; ++i)
    frequencies.push_back(std::pow(10.0, -static_cast<double>(i) / 5));
  const RopeTable table = make_rope_table(frequencies, 50, 1);
  std::vector<int32_t> positions;
  for (int64_t i = 0; i < kRows; ++i)
    positions.push_back(static_cast<int32_t>(random.between(0, 49)));
  Tensor want(DType::kBFloat16, kRows, kHeads * kDim);
  want.fill_normal(random);
  Tensor got = want;
  RopeArgs args{.x = want.data(), .dtype = DType::kBFloat16, .rows = kRows, .heads = kHeads};
  args.row_stride = kHeads * kDim;
  args.head_stride = kDim;
  args.positions = positions.data();
  args.table = &table;
  args.layout = layout;
  rope(args, team);
  for (int64_t number = 0; number < kRows * kHeads * kPairs; ++number) {
    const device::RopePlace place = device::rope_place(number, kHeads, kPairs);
    const device::PairOffsets offsets =
        device::pair_offsets(layout == RopeLayout::kInterleaved, place.pair, kPairs);
    const auto angle = static_cast<std::size_t>(
        positions[static_cast<std::size_t>(place.row)] * kPairs + place.pair);
    BFloat16* head = got.as<BFloat16>() + place.row * kHeads * kDim + place.head * kDim;
    device::turn_pair(head + offsets.a, head + offsets.b, table.cos[angle], table.sin[angle]);
  }
  EXPECT_TRUE(got.bytes() == want.bytes());
}

TEST(CudaEmulation, RopeTurnsEveryPairOnceWithTheBitsOfTheCpu) {
  rope_agrees(RopeLayout::kInterleaved);
  rope_agrees(RopeLayout::kHalfSplit);
}

}  // namespace
}  // namespace mole::kernels
