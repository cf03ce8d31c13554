"""The report: one line for each scenario, a grid for each matrix, and what failed, with the clause it fails."""
import re


def scenario_line(scenario, results):
    """`ok` or `FAIL`, counts, title, clause."""
    failed = sum(1 for result in results if result.error)
    mark = "FAIL" if failed else " ok "
    seconds = max([result.seconds for result in results], default=0)
    return f"{mark} {len(results) - failed:4d}/{len(results):<4d} {scenario.title}  [{scenario.clause}]  {seconds:.1f} s"


def grid(results, order):
    """Rows are who sends, columns who receives; `.` passed, `F` failed, blank: not tried. Who is no kind comes last."""
    pairs = {result.label: "F" if result.error else "." for result in results if len(result.label) == 2}
    place = {name: at for at, name in enumerate(order)}
    rows = sorted({row for row, _ in pairs}, key=lambda name: place.get(name, len(place)))
    columns = sorted({column for _, column in pairs}, key=lambda name: place.get(name, len(place)))
    width, height = max(map(len, rows)), max(map(len, columns))
    lines = [" " * (width + 9) + " ".join(column.rjust(height)[level] for column in columns) for level in range(height)]
    lines += [f"       {row.ljust(width)}  " + " ".join(pairs.get((row, column), " ") for column in columns) for row in rows]
    return "\n".join(lines)


def failures(results, limit=10):
    """What failed: one line for each error, numbers and names aside, with the labels that it came for."""
    groups = {}
    for result in results:
        if result.error:
            plain = result.error
            for name in sorted(result.label, key=len, reverse=True):
                plain = plain.replace(name, "KIND").replace(name.replace(".", "_"), "KIND")
            groups.setdefault(re.sub(r"\d+", "#", plain), []).append(result)
    lines = []
    for group in list(groups.values())[:limit]:
        labels = [" -> ".join(result.label) or "-" for result in group]
        more = f" and {len(labels) - 6} more" if len(labels) > 6 else ""
        lines.append(f"       {', '.join(labels[:6])}{more}:\n           {group[0].error}")
    if len(groups) > limit:
        lines.append(f"       … and {len(groups) - limit} other errors")
    return "\n".join(lines)


def show(scenario, results, grids, order):
    """Prints one scenario; `order` is that of the kinds."""
    if not results:
        return
    print(scenario_line(scenario, results), flush=True)
    failed = any(result.error for result in results)
    if scenario.grid and (grids or failed) and any(len(result.label) == 2 for result in results):
        print(grid(results, order), flush=True)
    if failed:
        print(failures(results), flush=True)
