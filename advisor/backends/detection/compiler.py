"""Whether torch can compile kernels here: a look for the tools, nothing is compiled."""

import os
import shutil
from importlib.util import find_spec

CPP_COMPILERS = ("g++", "clang++", "c++")


def cpp_compiler() -> str | None:
    """The C++ compiler that torch would take for a CPU."""
    return next((found for name in (os.environ.get("CXX"), *CPP_COMPILERS) if name and (found := shutil.which(name))), None)


def why_not_compiled(device: str) -> tuple[str, str] | None:
    """Why no kernel can be compiled for a type of device, and what to do about it."""
    if device == "cuda":
        return None if find_spec("triton") is not None else ("triton is not installed", "pip install triton")
    if cpp_compiler() is None:
        return f"none of {', '.join(CPP_COMPILERS)} is on the path, nor what CXX names", "install a C++ compiler, such as the package g++"
    return None
