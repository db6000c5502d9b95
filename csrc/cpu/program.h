// A network as a list of instructions on blocks of examples, as the Python side describes it.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/tensor_kernels.h"

namespace basinvol {
namespace cpu {

// Where a value lives, and with it when it is computed: once, once for every radius, or for every block of examples.
enum class Space { constant, perturbed, block };

struct Extent {
  std::int64_t size, stride;  // in floats
};

// A value: for every example a strided array. Outside the block space all examples share one.
struct Operand {
  Space space = Space::constant;
  std::int64_t offset = -1;  // of the first example, in floats from the start of the space; -1: there is no operand
  std::int64_t example_stride = 0;
  std::vector<Extent> extents;

  bool is_given() const { return offset >= 0; }
};

enum class Op {
  load,         // out <- a field of the data
  copy,         // out <- x, both strided
  pack,         // out <- weights [inputs..., outputs] as panels
  product,      // out [rows, outputs] <- x [rows, inputs], packed, bias, added
  convolution,  // out [height, width, outputs] <- x [height, width, channels], packed, bias, added
  depthwise,    // out [height, width, channels] <- x, weight [taps, channels], bias
  unary,        // out <- function(x)
  binary,       // out <- x, y
  normalize,    // out [rows, n] <- x [rows, n], weight [n], bias [n]
  softmax,      // out [rows, n] <- x [rows, n]
  reduce,       // out [rows] <- x [rows, n]
  pool,         // out [height, width, channels] <- x
  attention,    // out [heads, rows, n] <- q [heads, rows, k], k [heads, columns, k], v [heads, columns, n], mask
  batched,      // out [batch, rows, outputs] <- x [batch, rows, inputs], y [batch, inputs, outputs]
  embed,        // out [rows, n] <- table [entries, n], indices [rows]
  loss,         // the losses of examples <- outputs, targets
  count
};

struct Instruction {
  Op op;
  Space stage;
  std::vector<Operand> inputs;
  Operand output;
  std::vector<std::int64_t> sizes;  // by op, see executor.cpp
  std::vector<float> numbers;
  Function function;  // of unary, and after products
};

enum class TermLoss { cross_entropy, bce_with_logits, mse, l1, huber };

struct Field {
  const float* values;  // [count, size]
  std::int64_t size;
};

struct Program {
  std::vector<Instruction> instructions;
  std::vector<Field> fields;
  std::vector<const float*> parameters;       // tensors at the center, in the order of the flat vector
  std::vector<std::int64_t> parameter_sizes;  // the flat vector begins the perturbed space
  const float* constants;                     // they begin the constant space
  std::int64_t num_constants;
  std::int64_t constant_size, perturbed_size, block_size;  // floats of each space; of a block of `block_rows` examples
  int block_rows;
  const double* weights;  // of each example in the mean [count]
  bool is_nonnegative;    // whether no example's loss can be negative
};

}  // namespace cpu
}  // namespace basinvol
