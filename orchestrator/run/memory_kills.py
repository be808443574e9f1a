"""Evidence that the kernel has killed a process for memory.

It says nothing to the process: SIGKILL comes from nowhere. But it counts such kills, for each
control group and for the machine. Whoever started the process reads the counts while it lives, and
again when it was killed.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
VMSTAT = Path("/proc/vmstat")
# A kill is counted when the signal is sent, and a large process on a busy machine lives on for
# seconds: the counts of that time are not those of before.
DIES_WITHIN_S = 30.0
COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class MemoryKills:
    """The kernel's counts of kills for memory, as far as they concern one process."""

    def __init__(
        self,
        cgroups: Path = CGROUPS,
        vmstat: Path = VMSTAT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cgroups, self._vmstat = cgroups, vmstat
        self._clock = clock
        self._seen: deque[tuple[float, dict[Path, int]]] = deque()

    def look(self, membership: Path) -> None:
        """Note the counts; `membership` is the process's /proc/<pid>/cgroup."""
        try:
            files = (*self._counting(membership.read_text()), self._vmstat)
        except OSError:  # it has ended
            return
        now = self._clock()
        counts = {path: count for path in files if (count := _count(path)) is not None}
        self._seen.append((now, counts))
        while len(self._seen) > 1 and self._seen[1][0] < now - DIES_WITHIN_S:
            self._seen.popleft()

    def evidence(self) -> str:
        """A sentence on the count that has grown lately; "" if none has."""
        first: dict[Path, int] = {}
        for _, counts in self._seen:
            first = {**counts, **first}  # of a group that it was moved to, the first count there
        for path, before in first.items():
            now = _count(path)
            if now is not None and now > before:
                return f"{path} counts {now} kills for memory, {before} before{_limit(path)}"
        return ""

    def _counting(self, membership: str) -> Iterable[Path]:
        """The file that counts for the process's group, of either version of control groups."""
        for line in membership.splitlines():
            _, controllers, group = line.split(":", 2)
            if "memory" in controllers.split(","):
                root, name = self._cgroups / "memory", "memory.oom_control"
            elif not controllers:
                root, name = self._cgroups, "memory.events"
            else:
                continue
            # In a container the group's name may be the host's, and its files are at the root.
            for folder in (root / group.lstrip("/"), root):
                if (folder / name).is_file():
                    yield folder / name
                    break


def _count(path: Path) -> int | None:
    try:
        found = COUNT.search(path.read_text())
    except OSError:
        return None
    return int(found[1]) if found else None


def _limit(path: Path) -> str:
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            said = (path.parent / name).read_text().strip()
        except OSError:
            continue
        if said.isdigit() and int(said) < 1 << 60:  # version 1 has no word for "no limit"
            return f"; the limit of the group is {int(said) / 1e9:.2f} GB"
    return ""
