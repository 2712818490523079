#include "linear_form.h"

#include "op.h"

namespace peregrine {

OrtStatus* read_form(const OrtKernelInfo* info, const char* op, LinearForm* form) {
  int64_t offsets = 0, scale_bytes = 2;
  attribute(info, "N", &form->rows);
  attribute(info, "K", &form->columns);
  attribute(info, "group", &form->group);
  attribute(info, "bits", &form->bits);
  attribute(info, "offsets", &offsets);
  attribute(info, "scale_bytes", &scale_bytes);
  if (form->bits != 4 && form->bits != 8) return invalid("%s: bits must be 4 or 8", op);
  if (form->group != 32 && form->group != 64) return invalid("%s: group must be 32 or 64", op);
  if (scale_bytes != 2 && scale_bytes != 4) return invalid("%s: scale_bytes must be 2 or 4", op);
  constexpr int64_t kMost = int64_t{1} << 24;
  if (form->rows < 1 || form->rows > kMost) return invalid("%s: N must be from 1 to 2^24", op);
  if (form->columns < 1 || form->columns > kMost || form->columns % form->group != 0) {
    return invalid("%s: K must be a positive multiple of group up to 2^24", op);
  }
  form->offsets = offsets != 0;
  form->wide = scale_bytes == 4;
  form->tiles = (form->rows + kTileRows - 1) / kTileRows;
  form->groups = form->columns / form->group;
  form->level_bytes = form->columns * kTileRows * form->bits / 8;
  form->scale_bytes = kTileRows * scale_bytes * (form->offsets ? 2 : 1);
  form->tile_bytes = (form->level_bytes + form->groups * form->scale_bytes + 63) / 64 * 64;
  form->centre = form->offsets ? 0 : 1 << (form->bits - 1);
  return nullptr;
}

OrtStatus* check_weight(const LinearForm& form, const char* op, const Tensor& weight) {
  if (weight.rank == 2 && weight.dims[0] == form.tiles && weight.dims[1] == form.tile_bytes) return nullptr;
  return invalid("%s: weight must have shape [%lld, %lld]", op, static_cast<long long>(form.tiles),
                 static_cast<long long>(form.tile_bytes));
}

}  // namespace peregrine
