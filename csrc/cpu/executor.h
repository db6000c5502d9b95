// Runs the instructions of a program on one block of examples.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/program.h"

namespace basinvol {
namespace cpu {

struct Kernels;

// Memory of one thread for one block.
struct Workspace {
  Buffer block;
  Buffer columns;  // images with a frame, rows of attention
  std::vector<std::int32_t> offsets;
  Buffer packed;  // a right factor that is not a parameter
  std::vector<std::int64_t> labels;
  std::vector<double> row_losses;
  std::int64_t operations = 0;
};

class Executor {
 public:
  Executor(const Program& program, const char* instruction_set, const Kernels& kernels);

  // Instructions that depend on neither parameters nor examples.
  void run_constant(float* constant, Workspace& workspace) const;

  // Those that depend on the parameters, which the perturbed space begins with.
  void run_perturbed(const float* constant, float* perturbed, Workspace& workspace) const;

  // All others, for these rows of the data; losses [count], each summed over its terms and weighted.
  void run_block(const float* constant, const float* perturbed, const std::int64_t* rows, int count,
                 Workspace& workspace, double* losses) const;

 private:
  struct Run;  // the spaces, the rows and where the losses go
  struct Window;

  void run(const Instruction& i, const Run& run) const;
  void load(const Instruction& i, const Run& run) const;
  void copy(const Instruction& i, const Run& run) const;
  void pack(const Instruction& i, const Run& run) const;
  void product(const Instruction& i, const Run& run) const;
  void convolution(const Instruction& i, const Run& run) const;
  void depthwise(const Instruction& i, const Run& run) const;
  void unary(const Instruction& i, const Run& run) const;
  void binary(const Instruction& i, const Run& run) const;
  void by_rows(const Instruction& i, const Run& run) const;
  void pool(const Instruction& i, const Run& run) const;
  void attention(const Instruction& i, const Run& run) const;
  void batched(const Instruction& i, const Run& run) const;
  void embed(const Instruction& i, const Run& run) const;
  void loss(const Instruction& i, const Run& run) const;

  const float* framed(const Window& w, const Operand& image, const Run& state, std::int64_t channels,
                      std::int64_t& example_stride, std::int64_t& row_stride) const;
  void finish(const Instruction& i, const Run& run, std::int64_t first, std::int64_t rows, std::int64_t width, float* c,
              std::int64_t c_stride) const;
  void pack_right(const float* y, std::int64_t inputs, std::int64_t outputs, std::int64_t input_stride,
                  std::int64_t output_stride, float* packed) const;

  const Program& program_;
  const TensorKernels& tensor_;
  const Kernels& kernels_;
};

}  // namespace cpu
}  // namespace basinvol
