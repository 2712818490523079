#include "linear_op.h"

namespace peregrine {

OrtStatus* Linear::create(const OrtKernelInfo* info, Linear** kernel) {
  LinearForm form;
  int64_t swiglu = 0;
  float norm_eps = 1e-5f;
  if (OrtStatus* status = read_form(info, kName, &form)) return status;
  attribute(info, "swiglu", &swiglu);
  attribute(info, "norm_eps", &norm_eps);
  if (swiglu != 0 && form.rows % kTileRows != 0) return invalid("Linear: N must be a multiple of 32 with swiglu");
  if (OrtStatus* status = new_kernel(kernel)) return status;
  (*kernel)->form_ = form;
  (*kernel)->norm_eps_ = norm_eps;
  if (swiglu != 0) (*kernel)->epilogue_ = LinearEpilogue::kSwiGlu;
  return nullptr;
}

OrtStatus* Linear::compute(Context& context) const {
  Tensor x, weight, bias, gain, residual;
  if (OrtStatus* status = context.input(0, &x)) return status;
  if (OrtStatus* status = context.input(1, &weight)) return status;
  if (OrtStatus* status = context.input(2, &bias)) return status;
  if (OrtStatus* status = context.input(3, &gain)) return status;
  if (OrtStatus* status = context.input(4, &residual)) return status;
  if (x.rank != 2 || x.dims[1] != form_.columns) return invalid("Linear: x must have shape [rows, K]");
  if (OrtStatus* status = check_weight(form_, kName, weight)) return status;
  if (bias.present() && (bias.rank != 1 || bias.dims[0] != form_.rows)) {
    return invalid("Linear: bias must have shape [N]");
  }
  if (gain.present() && (gain.rank != 1 || gain.dims[0] != form_.columns)) {
    return invalid("Linear: gain must have shape [K]");
  }
  if (residual.present()) {
    if (epilogue_ == LinearEpilogue::kSwiGlu) return invalid("Linear: swiglu takes no residual");
    if (residual.rank != 2 || residual.dims[0] != x.dims[0] || residual.dims[1] != form_.rows) {
      return invalid("Linear: residual must have shape [rows, N]");
    }
  }
  LinearCall call;
  call.form = &form_;
  call.weight = weight.as<const uint8_t>();
  call.bias = bias.as<const float>();
  call.gain = gain.as<const float>();
  call.norm_eps = norm_eps_;
  call.residual = residual.as<const float>();
  call.x = x.as<const float>();
  call.count = x.dims[0];
  call.epilogue = epilogue_;
  call.width = epilogue_ == LinearEpilogue::kSwiGlu ? form_.rows / 2 : form_.rows;
  const int64_t dims[] = {call.count, call.width};
  void* y = nullptr;
  if (OrtStatus* status = context.output(0, dims, 2, &y)) return status;
  call.y = static_cast<float*>(y);
  return run_linear(context, call);
}

}  // namespace peregrine
