"""Every kernel of the project: one line each."""

from advisor.kernels import (
    add_rmsnorm,
    block_sparse_prefill,
    fp8_linear,
    int4_gpu,
    int4_linear,
    int8_gpu,
    int8_linear,
    kv_write,
    paged_decode,
    quantise_rows,
    sampling,
    silu_mul,
)
from advisor.kernels.kernel import Kernel

KERNELS: tuple[Kernel, ...] = (
    int8_linear.KERNEL,
    int4_linear.KERNEL,
    int8_gpu.KERNEL,
    int4_gpu.KERNEL,
    quantise_rows.KERNEL,
    fp8_linear.KERNEL,
    add_rmsnorm.KERNEL,
    silu_mul.KERNEL,
    paged_decode.KERNEL,
    kv_write.KERNEL,
    block_sparse_prefill.KERNEL,
    sampling.KERNEL,
)
