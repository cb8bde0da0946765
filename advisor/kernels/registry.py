"""Every kernel of the project: one line each."""

from advisor.kernels.attention import block_sparse_prefill, paged_decode
from advisor.kernels.cache import kv_write
from advisor.kernels.kernel import Kernel
from advisor.kernels.linear import int4_gpu, int4_linear, int8_gpu, int8_linear
from advisor.kernels.rows import add_rmsnorm, silu_mul

KERNELS: tuple[Kernel, ...] = (
    int8_linear.KERNEL,
    int4_linear.KERNEL,
    int8_gpu.KERNEL,
    int4_gpu.KERNEL,
    add_rmsnorm.KERNEL,
    silu_mul.KERNEL,
    paged_decode.KERNEL,
    kv_write.KERNEL,
    block_sparse_prefill.KERNEL,
)
