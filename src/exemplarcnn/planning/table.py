"""Show a plan as text."""

import pandas as pd

from exemplarcnn.planning.plan import Plan, timed
from exemplarcnn.tracking.stage_states import TO_RUN


def render(plan: Plan) -> str:
    """Return a plan as a table, one line a stage, with the sums and what is missing."""
    rows = [
        {
            "stage": line.work.stage,
            "state": line.state,
            "images": _count(line.work.images),
            "patches": _count(line.work.patches),
            "steps": _count(line.work.steps),
            "disk": _bytes(line.disk) if line.disk else "",
            "memory": _bytes(line.work.memory) if line.state == TO_RUN else "",
            "time": duration(line.seconds) if line.state == TO_RUN else "",
            "mostly": line.mostly if line.seconds >= 1 else "",
        }
        for line in plan.lines
    ]
    rows.append({"stage": "DVC: hashes and copies", "time": duration(plan.dvc_seconds)})
    total = {"disk": _bytes(plan.disk), "memory": _bytes(plan.memory), "time": duration(plan.seconds)}
    rows.append({"stage": "in all; at once", **total})
    frame = pd.DataFrame(rows).fillna("")
    text = frame.to_string(index=False, formatters={"stage": f"{{:<{frame['stage'].str.len().max()}}}".format})
    how = "DVC copies results into its cache" if plan.links == "copy" else f"DVC links results ({plan.links})"
    free = ", ".join(f"{_bytes(space.free)} free in {space.folder.absolute()}" for space in plan.spaces)
    lines = [
        text,
        "",
        f"Disk: {free}; {how}. Memory: {_bytes(plan.memory_available)} available.",
    ]
    if plan.seconds:
        lines.append(f"If it starts now and nothing else runs, it ends about {timed(plan)}.")
    lines += [f"Not enough: {problem}." for problem in plan.problems()]
    return "\n".join(lines)


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _bytes(size: int) -> str:
    """Return a size for people: 1.2 GB, 34 MB."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}" if size < 10 * unit else f"{size / unit:,.0f} {name}"
    return f"{size} B"


def duration(seconds: float) -> str:
    """Return a time for people: 12 s, 3 min, 4 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
