"""Every kernel of the project: one line each."""

from advisor.kernels import int4_linear, int8_linear
from advisor.kernels.kernel import Kernel

KERNELS: tuple[Kernel, ...] = (
    int8_linear.KERNEL,
    int4_linear.KERNEL,
)
