"""Types of the columns that price and rank many deployments at once: one entry for each deployment."""

from numpy import float64, intp
from numpy.typing import NDArray

Numbers = NDArray[float64]
Indices = NDArray[intp]
