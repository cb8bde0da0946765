"""The limits that Linux control groups set for this process: processor time and memory, versions 1 and 2."""

import re
from pathlib import Path

_NO_LIMIT = 1 << 60
"""Version 1 writes a number above this where there is no limit."""


def cgroup_limits(root: Path) -> tuple[float | None, int | None, int]:
    """Processors' worth of time, bytes of memory, and bytes used, of this process's cgroups and every one above; either version."""
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
    """The cgroup's folder and those above, up to the mount. In a container the path may be the host's: only the mount is there."""
    mount = mount if mount.exists() or other_mount is None else other_mount
    folder = mount / path.strip("/")
    return [place for place in (folder, *folder.parents) if place.is_relative_to(mount) and place.exists()]


def _quota(words: list[str]) -> list[float]:
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return []
    return [int(words[0]) / int(words[1])]


def _limit(folder: Path, limit_name: str, used_name: str) -> list[tuple[int, int]]:
    """Limit and use of a cgroup; file pages that can be dropped do not count as used."""
    limit = file_text(folder / limit_name).strip()
    if not limit.isdigit() or int(limit) >= _NO_LIMIT:
        return []
    used = file_text(folder / used_name).strip()
    droppable = re.search(r"^(?:total_)?inactive_file (\d+)$", file_text(folder / "memory.stat"), re.MULTILINE)
    return [(int(limit), max(0, int(used or 0) - int(droppable[1] if droppable else 0)))]


def file_text(path: Path) -> str:
    """The file's text, or nothing where it does not exist or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
