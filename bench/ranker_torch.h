#pragma once

#include <vector>

#include "ranker_case.h"

namespace fuseline::bench {

// LibTorch's forward pass of a case's actor on one thread, as one writes it in C++ with care: inference mode, tensors
// over the input's own memory, activations in place. "split": the shared columns' part once, and as the bias of the
// first product, as ours; "plain": the whole state of each candidate; and both in bfloat16 too, inputs converted inside
// the pass.
std::vector<ActorWay> TorchWays(const RankerCase& from, const ActorInput& input);

// A large product of float32 matrices, and how many GFLOP it is: what the machine's best sgemm reaches.
struct Product {
  std::function<void()> pass;
  double gflop;
};
Product TorchProduct();

}  // namespace fuseline::bench
