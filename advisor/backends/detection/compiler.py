"""Whether torch can compile kernels on this machine, by looking for the compilers; nothing is compiled."""

import os
import shutil
from importlib.util import find_spec

CPP_COMPILERS = ("g++", "clang++", "c++")


def cpp_compiler() -> str | None:
    """Path of the C++ compiler that torch would use for CPU code; `None` where there is none."""
    return next((path for name in (os.environ.get("CXX"), *CPP_COMPILERS) if name and (path := shutil.which(name))), None)


def why_not_compiled(device: str) -> tuple[str, str] | None:
    """Why no kernel can be compiled for a device type (`cpu` or `cuda`) and how to fix it; `None` where kernels can be compiled."""
    if device == "cuda":
        return None if find_spec("triton") is not None else ("triton is not installed", "pip install triton")
    if cpp_compiler() is None:
        return f"none of {', '.join(CPP_COMPILERS)} is on the path, nor what CXX names", "install a C++ compiler, such as the package g++"
    return None
