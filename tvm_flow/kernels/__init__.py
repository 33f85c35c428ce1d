"""Integer matrix kernels, one file per instruction set: a tensor intrinsic, its packing, and its default tile."""
