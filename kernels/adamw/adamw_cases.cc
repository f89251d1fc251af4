#include <cmath>

#include "kernels/adamw/adamw.h"
#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"

namespace mole::kernels {
namespace {

class AdamWCase : public KernelCase {
 public:
  AdamWCase(int64_t count, int64_t step, CaseRandom& random)
      : count_(count),
        parameter_(DType::kFloat32, 1, count),
        gradient_(DType::kFloat32, 1, count),
        moment1_(DType::kFloat32, 1, count),
        moment2_(DType::kFloat32, 1, count) {
    scalars_.count = count;
    scalars_.learning_rate = 3e-4;
    scalars_.weight_decay = 0.1;
    scalars_.gradient_scale = 0.5;
    scalars_.step = step;
    parameter_.fill_normal(random);
    gradient_.fill_normal(random, 1e-2);
    moment1_.fill_normal(random, step == 1 ? 0 : 1e-2);
    for (int64_t i = 0; i < count; ++i) {
      const double g = step == 1 ? 0 : 1e-2 * random.normal();
      moment2_.set(0, i, g * g);
    }
  }

  std::string name() const override {
    return "count=" + std::to_string(count_) + " step=" + std::to_string(scalars_.step);
  }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override { return 14.0 * static_cast<double>(count_); }
  double bytes() const override { return 28.0 * static_cast<double>(count_); }
  std::vector<Tensor*> outputs() override { return {&parameter_, &moment1_, &moment2_}; }

  void run(ThreadTeam& team) override {
    AdamWArgs args = scalars_;
    args.parameter = parameter_.as<float>();
    args.gradient = gradient_.as<float>();
    args.moment1 = moment1_.as<float>();
    args.moment2 = moment2_.as<float>();
    adamw(args, team);
  }

  std::vector<Expectation> expect() override {
    Expectation p{&parameter_, "parameter", parameter_.doubles(), {}};
    Expectation m{&moment1_, "moment1", moment1_.doubles(), {}};
    Expectation v{&moment2_, "moment2", moment2_.doubles(), {}};
    const std::vector<double> before = p.want, m_before = m.want;
    const std::vector<double> gradient = gradient_.doubles();
    adamw_ref(p.want.data(), gradient.data(), m.want.data(), v.want.data(), count_, scalars_);
    for (std::size_t i = 0; i < p.want.size(); ++i) {
      const double m_size = std::abs(m_before[i]) + std::abs(gradient[i]);
      const double change = std::abs(p.want[i] - before[i]) +
                            scalars_.learning_rate * (1 + m_size / std::sqrt(v.want[i] + 1e-30));
      // Eight roundings in the step (its own size), three in the parameter's.
      p.tolerance.push_back(steps_tolerance(8, change) + steps_tolerance(3, before[i]));
      m.tolerance.push_back(steps_tolerance(4, m_size));
      v.tolerance.push_back(steps_tolerance(5, v.want[i]));
    }
    return {p, m, v};
  }

 private:
  int64_t count_;
  AdamWArgs scalars_;
  Tensor parameter_, gradient_, moment1_, moment2_;
};

CasePtr awkward(CaseRandom& random) {
  const int64_t count = random.coin() ? random.between(0, 40) : random.between(4090, 8200);
  return std::make_unique<AdamWCase>(count, random.pick({1, 2, 1000}), random);
}

}  // namespace

std::vector<OpCases> adamw_cases() {
  OpCases out{"adamw", awkward, {}};
  out.bench.push_back([](CaseRandom& random) -> CasePtr {
    return std::make_unique<AdamWCase>(int64_t{1} << 22, 10, random);
  });
  return {out};
}

}  // namespace mole::kernels
