// wrapper_check BUNDLE: tvm_flow.hpp. Exits 0 when all answers are right.
#include "tvm_flow.hpp"

#include <cstdio>
#include <stdexcept>
#include <type_traits>

#define EXPECT(condition) \
  if (!(condition)) return std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition), 1

using namespace tvm_flow_cpp;
static_assert(!std::is_copy_constructible_v<flow> && std::is_nothrow_move_constructible_v<flow>);
static_assert(!std::is_copy_constructible_v<decoder> && std::is_nothrow_move_assignable_v<decoder>);

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  auto absent = flow::open("/nonexistent");
  EXPECT(!absent && absent.error().status == TVM_FLOW_FILE_ERROR &&
         absent.error().cause == TVM_FLOW_CAUSE_ABSENT && !absent.error().message.empty());
  auto planned = flow::plan(argv[1]);
  EXPECT(planned && planned->total_bytes > planned->arena_bytes);
  auto opened = flow::open(argv[1]);
  EXPECT(opened);
  flow first = std::move(*opened), second = std::move(first);
  EXPECT(!first.get() && second.get() && !second.verify());
  const auto sizes = second.describe();
  const std::vector<float> zeros(sizes.latent_floats + sizes.text_tokens * sizes.text_channels + sizes.text_tokens);
  tvm_flow_request request{};
  request.noise = zeros.data();
  request.cond = request.uncond = {zeros.data(), zeros.data()};
  std::uint32_t steps = 0;
  auto latents = second.generate(request, [&](std::uint32_t done, std::uint32_t) { return (steps = done) > 0; });
  EXPECT(latents && latents->size() == sizes.latent_floats && steps == sizes.steps);
  auto stopped = second.generate(request, [](std::uint32_t, std::uint32_t) { return false; });
  EXPECT(!stopped && stopped.error().status == TVM_FLOW_CANCELLED);
  bool caught = false;
  try {
    second.generate(request, [](std::uint32_t, std::uint32_t) -> bool { throw std::runtime_error("mine"); });
  } catch (const std::runtime_error &mine) {
    caught = std::string(mine.what()) == "mine";
  }
  EXPECT(caught && second.trim() == TVM_FLOW_OK && !second.verify()); // and the handle is as good as before
  auto frames_of = decoder::open(argv[1]);
  EXPECT(frames_of);
  auto frames = frames_of->decode(*latents);
  EXPECT(frames && frames->size() == frames_of->describe().frame_values);
  EXPECT(!frames_of->decode({1.0f}));
  return std::puts("ok") < 0;
}
