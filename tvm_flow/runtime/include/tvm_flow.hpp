// tvm_flow for C++17: handles that close themselves, errors as values, callbacks that may throw.
//
//   auto opened = tvm_flow_cpp::flow::open("model.bundle");
//   if (!opened) return report(opened.error().message);
//   tvm_flow_cpp::flow flow = std::move(*opened);
//   auto latents = flow.generate(request, [](std::uint32_t done, std::uint32_t steps) { return true; });
//
// What a callback throws is kept while the runtime is left, and thrown again by the function that was called. One that
// answers false cancels. Threads and lifetimes are those of tvm_flow.h: one call at a time for a handle.
#ifndef TVM_FLOW_HPP
#define TVM_FLOW_HPP

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tvm_flow_cause.h"
#include "tvm_flow_control.h"
#include "tvm_flow_memory.h"

namespace tvm_flow_cpp {

struct error {
  tvm_flow_status status = TVM_FLOW_OK;
  std::string message;
  tvm_flow_cause cause = TVM_FLOW_CAUSE_NONE;
};

// A value, or why there is none.
template <typename T>
class result {
 public:
  result(T value) : value_(std::move(value)) {}
  result(tvm_flow_cpp::error why) : error_(std::move(why)) {}
  explicit operator bool() const { return value_.has_value(); }
  T &operator*() { return *value_; }
  T *operator->() { return &*value_; }
  const tvm_flow_cpp::error &error() const { return error_; }

 private:
  std::optional<T> value_;
  tvm_flow_cpp::error error_;
};

using progress = std::function<bool(std::uint32_t done, std::uint32_t total)>;

namespace detail {

// A callback on its way through C.
struct guard {
  const progress &call;
  std::exception_ptr thrown;
  static int run(void *user, std::uint32_t done, std::uint32_t total) noexcept {
    auto *self = static_cast<guard *>(user);
    try {
      return !self->call(done, total);
    } catch (...) {
      self->thrown = std::current_exception();
      return 1;
    }
  }
};

inline error why(const tvm_flow_error &error) { return {error.status, error.message, tvm_flow_cause_of(&error)}; }

// Owns a handle of C; a moved-from one owns none.
template <typename Handle, tvm_flow_status (*Close)(Handle *)>
class owner {
 public:
  explicit owner(Handle *handle) : handle_(handle) {}
  owner(owner &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  owner &operator=(owner &&other) noexcept {
    if (this != &other) Close(std::exchange(handle_, std::exchange(other.handle_, nullptr)));
    return *this;
  }
  ~owner() { Close(handle_); }
  Handle *get() const { return handle_; }

 private:
  Handle *handle_;
};

}  // namespace detail

class flow {
 public:
  static result<flow> open(const std::string &bundle, const tvm_flow_options *options = nullptr) {
    tvm_flow_error error{};
    tvm_flow *handle = nullptr;
    if (tvm_flow_open(bundle.c_str(), options, &handle, &error)) return detail::why(error);
    return flow(handle);
  }

  static result<tvm_flow_memory> plan(const std::string &bundle, const tvm_flow_options *options = nullptr) {
    tvm_flow_error error{};
    tvm_flow_memory memory{};
    if (tvm_flow_plan(bundle.c_str(), options, &memory, &error)) return detail::why(error);
    return memory;
  }

  tvm_flow_description describe() const {
    tvm_flow_description out{};
    tvm_flow_describe(get(), &out);
    return out;
  }

  // Latents [latent_shape].
  result<std::vector<float>> generate(const tvm_flow_request &request, const progress &look = nullptr) {
    std::vector<float> latents(describe().latent_floats);
    detail::guard guard{look, nullptr};
    tvm_flow_error error{};
    const auto call = look ? detail::guard::run : nullptr;
    const auto status = tvm_flow_generate(get(), &request, latents.data(), call, &guard, &error);
    if (guard.thrown) std::rethrow_exception(guard.thrown);
    if (status) return detail::why(error);
    return latents;
  }

  std::optional<error> verify() {
    tvm_flow_error error{};
    if (tvm_flow_verify(get(), &error)) return detail::why(error);
    return std::nullopt;
  }

  void cancel() noexcept { tvm_flow_cancel(get()); }
  tvm_flow_status trim() noexcept { return tvm_flow_trim(get()); }
  tvm_flow *get() const { return handle_.get(); }  // for what is not here

 private:
  explicit flow(tvm_flow *handle) : handle_(handle) {}
  detail::owner<tvm_flow, tvm_flow_close> handle_;
};

class decoder {
 public:
  static result<decoder> open(const std::string &bundle, const tvm_flow_options *options = nullptr) {
    tvm_flow_error error{};
    tvm_flow_decoder *handle = nullptr;
    if (tvm_flow_decoder_open(bundle.c_str(), options, &handle, &error)) return detail::why(error);
    return decoder(handle);
  }

  tvm_flow_decoder_description describe() const {
    tvm_flow_decoder_description out{};
    tvm_flow_decoder_describe(get(), &out);
    return out;
  }

  // Bytes [frames, height, width, 3].
  result<std::vector<std::uint8_t>> decode(const std::vector<float> &latents, const progress &look = nullptr) {
    const auto sizes = describe();
    if (latents.size() != sizes.latent_floats)
      return error{TVM_FLOW_INVALID_ARGUMENT, "decode: expected latents of this decoder, got another number of values"};
    std::vector<std::uint8_t> frames(sizes.frame_values);
    detail::guard guard{look, nullptr};
    tvm_flow_decode_request request{};
    request.struct_bytes = sizeof request, request.latents = latents.data(), request.rgb8 = frames.data();
    if (look) request.progress = detail::guard::run, request.user = &guard;
    tvm_flow_error error{};
    const auto status = tvm_flow_decode_with(get(), &request, &error);
    if (guard.thrown) std::rethrow_exception(guard.thrown);
    if (status) return detail::why(error);
    return frames;
  }

  void cancel() noexcept { tvm_flow_decoder_cancel(get()); }
  tvm_flow_decoder *get() const { return handle_.get(); }

 private:
  explicit decoder(tvm_flow_decoder *handle) : handle_(handle) {}
  detail::owner<tvm_flow_decoder, tvm_flow_decoder_close> handle_;
};

}  // namespace tvm_flow_cpp

#endif
