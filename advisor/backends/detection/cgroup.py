"""The limits that Linux control groups set for this process: processor time and memory, versions 1 and 2."""

import re
from pathlib import Path

_NO_LIMIT = 1 << 60
"""Version 1 writes a number above this where there is no limit."""


def cgroup_limits(root: Path) -> tuple[float | None, int | None, int]:
    """The least limits over this process's cgroups and their ancestors: CPU quota in processors, memory limit and memory use in bytes.

    `root` is the folder with `proc` and `sys`. A limit is `None` where none is set.
    """
    quotas: list[float] = []
    limits: list[tuple[int, int]] = []
    for line in file_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if controllers == "":
            for folder in _upwards(root / "sys/fs/cgroup", path):
                quotas += _quota(file_text(folder / "cpu.max").split())
                limits += _limit(folder, "memory.max", "memory.current")
        if "cpu" in names:
            for folder in _upwards(root / "sys/fs/cgroup" / controllers, path, root / "sys/fs/cgroup/cpu"):
                quotas += _quota([*file_text(folder / "cpu.cfs_quota_us").split(), *file_text(folder / "cpu.cfs_period_us").split()])
        if "memory" in names:
            for folder in _upwards(root / "sys/fs/cgroup/memory", path):
                limits += _limit(folder, "memory.limit_in_bytes", "memory.usage_in_bytes")
    limit, used = min(limits, default=(None, 0))
    return min(quotas, default=None), limit, used


def _upwards(mount: Path, path: str, other_mount: Path | None = None) -> list[Path]:
    """The cgroup's folder and its ancestors up to the mount. In a container `path` may be the host's, and only the mount exists."""
    mount = mount if mount.exists() or other_mount is None else other_mount
    folder = mount / path.strip("/")
    return [ancestor for ancestor in (folder, *folder.parents) if ancestor.is_relative_to(mount) and ancestor.exists()]


def _quota(words: list[str]) -> list[float]:
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return []
    return [int(words[0]) / int(words[1])]


def _limit(folder: Path, limit_name: str, used_name: str) -> list[tuple[int, int]]:
    """Memory limit and use of a cgroup; reclaimable file pages do not count as used."""
    limit = file_text(folder / limit_name).strip()
    if not limit.isdigit() or int(limit) >= _NO_LIMIT:
        return []
    used = file_text(folder / used_name).strip()
    reclaimable = re.search(r"^(?:total_)?inactive_file (\d+)$", file_text(folder / "memory.stat"), re.MULTILINE)
    return [(int(limit), max(0, int(used or 0) - int(reclaimable[1] if reclaimable else 0)))]


def file_text(path: Path) -> str:
    """The file's text; empty where it does not exist or cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
