// One sequence for the tests of attention: strided queries and outputs, paged keys and values with
// NaN in every row past the context and in every gap, and the same numbers in plain float64
// layouts.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/attention/attention_error.h"
#include "tests/kernels/op_support.h"

namespace mole::kernels::testing {

struct AttentionShape {
  int64_t queries, first;
  int32_t heads, kv_heads, key, shared, value;
  bool latent = false;  // values are the first `value` numbers of the keys
  int64_t pad = 0;      // gap after every head and row
};

inline std::string shape_text(const AttentionShape& s) {
  return "queries " + std::to_string(s.queries) + " first " + std::to_string(s.first) + " heads " +
         std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + " dims " +
         std::to_string(s.key) + "+" + std::to_string(s.shared) + "," + std::to_string(s.value);
}

/// [rows][heads][dim] with gaps.
template <typename T>
struct Strided {
  Strided(int64_t row_count, int64_t head_count, int64_t d, int64_t pad)
      : rows(row_count),
        heads(head_count),
        dim(d),
        head_stride(d + pad),
        row_stride(head_count * (d + pad) + pad),
        data(std::max<int64_t>(1, row_count * row_stride)) {}
  T& at(int64_t r, int64_t h, int64_t d) { return data[r * row_stride + h * head_stride + d]; }
  void fill(uint64_t stream, double spread) {
    Random random(stream);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < heads * dim; ++i) {
        assign(at(r, i / dim, i % dim), random.normal() * spread);
      }
    }
  }
  std::vector<double> plain() {
    std::vector<double> out;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < heads * dim; ++i) {
        out.push_back(to_double(at(r, i / dim, i % dim)));
      }
    }
    return out;
  }
  int64_t rows, heads, dim, head_stride, row_stride;
  Guarded<T> data;
};

/// Rows in blocks of 64, each block its own memory; rows past `rows` stay NaN.
template <typename T>
struct Paged {
  Paged(int64_t row_count, int64_t head_count, int64_t d, int64_t pad) : rows(row_count) {
    for (int64_t r = 0; r < row_count; r += kAttentionBlock) {
      blocks.emplace_back(kAttentionBlock, head_count, d, pad);
    }
    for (auto& block : blocks) pointers.push_back(block.data.data());
  }
  T& at(int64_t r, int64_t h, int64_t d) {
    return blocks[static_cast<size_t>(r / kAttentionBlock)].at(r % kAttentionBlock, h, d);
  }
  void fill(uint64_t stream, double spread) {
    Random random(stream);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t h = 0; h < blocks[0].heads; ++h) {
        for (int64_t d = 0; d < blocks[0].dim; ++d) assign(at(r, h, d), random.normal() * spread);
      }
    }
  }
  std::vector<double> plain(int64_t dim) {
    std::vector<double> out;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t h = 0; h < blocks[0].heads; ++h) {
        for (int64_t d = 0; d < dim; ++d) out.push_back(to_double(at(r, h, d)));
      }
    }
    return out;
  }
  int64_t rows;
  std::vector<Strided<T>> blocks;
  std::vector<const void*> pointers;
};

template <typename T>
struct AttentionCase {
  explicit AttentionCase(AttentionShape s, uint64_t stream = 100)
      : shape(s),
        context(s.first + s.queries),
        q(s.queries, s.heads, s.key, s.pad),
        q_shared(s.queries, s.heads, s.shared, s.pad),
        k(context, s.kv_heads, s.key, s.pad),
        k_shared(context, 1, s.shared, s.pad),
        v(context, s.kv_heads, s.value, s.pad),
        out(s.queries, s.heads, s.value, s.pad),
        dout(s.queries, s.heads, s.value, s.pad),
        logsumexp(s.queries * s.heads) {
    q.fill(stream, 1.0);
    q_shared.fill(stream + 1, 1.0);
    k.fill(stream + 2, 1.0);
    k_shared.fill(stream + 3, 1.0);
    v.fill(stream + 4, 1.0);
    dout.fill(stream + 5, 1.0);
  }

  /// Rows [begin, end) of the queries.
  AttentionArgs args(int64_t begin, int64_t end) {
    AttentionArgs a;
    a.dtype = dtype_of<T>();
    a.num_queries = end - begin;
    a.first_position = shape.first + begin;
    a.num_heads = shape.heads;
    a.num_kv_heads = shape.kv_heads;
    a.key_dim = shape.key;
    a.shared_dim = shape.shared;
    a.value_dim = shape.value;
    a.scale = 1.0f / std::sqrt(static_cast<float>(shape.key + shape.shared));
    a.q = q.data.data() + begin * q.row_stride;
    a.q_row_stride = q.row_stride;
    a.q_head_stride = q.head_stride;
    a.q_shared = q_shared.data.data() + begin * q_shared.row_stride;
    a.q_shared_row_stride = q_shared.row_stride;
    a.q_shared_head_stride = q_shared.head_stride;
    a.out = out.data.data() + begin * out.row_stride;
    a.out_row_stride = out.row_stride;
    a.out_head_stride = out.head_stride;
    a.logsumexp = logsumexp.data() + begin * shape.heads;
    a.key_blocks = k.pointers.data();
    a.value_blocks = shape.latent ? k.pointers.data() : v.pointers.data();
    a.shared_blocks = shape.shared == 0 ? nullptr : k_shared.pointers.data();
    if (context == 0) return a;
    a.key_row_stride = k.blocks[0].row_stride;
    a.key_head_stride = k.blocks[0].head_stride;
    a.value_row_stride = shape.latent ? a.key_row_stride : v.blocks[0].row_stride;
    a.value_head_stride = shape.latent ? a.key_head_stride : v.blocks[0].head_stride;
    a.shared_row_stride = k_shared.blocks[0].row_stride;
    return a;
  }
  AttentionArgs args() { return args(0, shape.queries); }

  /// [Q, H, key + shared]
  std::vector<double> plain_q() {
    std::vector<double> out_q;
    for (int64_t r = 0; r < shape.queries; ++r) {
      for (int64_t h = 0; h < shape.heads; ++h) {
        for (int32_t d = 0; d < shape.key; ++d) out_q.push_back(to_double(q.at(r, h, d)));
        for (int32_t d = 0; d < shape.shared; ++d) {
          out_q.push_back(to_double(q_shared.at(r, h, d)));
        }
      }
    }
    return out_q;
  }
  PlainAttention plain() { return {args(), plain_q(), plain_k(), plain_shared(), plain_v()}; }
  std::vector<double> plain_k() { return k.plain(shape.key); }
  std::vector<double> plain_shared() { return k_shared.plain(shape.shared); }
  std::vector<double> plain_v() { return (shape.latent ? k : v).plain(shape.value); }

  bool same_bits(const AttentionCase& other) const {
    return out.data.same_bits(other.out.data) && logsumexp.same_bits(other.logsumexp);
  }

  AttentionShape shape;
  int64_t context;
  Strided<T> q, q_shared;
  Paged<T> k, k_shared, v;
  Strided<T> out, dout;
  Guarded<float> logsumexp;
};

}  // namespace mole::kernels::testing
