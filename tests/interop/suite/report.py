"""The report: one line for each scenario, a grid for each matrix, and what failed, with the clause it fails."""


def scenario_line(scenario, results):
    """`ok` or `FAIL`, counts, title, clause."""
    failed = sum(1 for result in results if result.error)
    mark = "FAIL" if failed else " ok "
    seconds = max([result.seconds for result in results], default=0)
    return f"{mark} {len(results) - failed:4d}/{len(results):<4d} {scenario.title}  [{scenario.clause}]  {seconds:.1f} s"


def grid(results):
    """Rows are who sends, columns who receives; `.` passed, `F` failed."""
    pairs = {result.label: result.error for result in results if len(result.label) == 2}
    rows = list(dict.fromkeys(label[0] for label in pairs))
    columns = list(dict.fromkeys(label[1] for label in pairs))
    width = max(len(row) for row in rows)
    height = max(len(column) for column in columns)
    lines = []
    for level in range(height):
        lines.append(" " * (width + 8) + " ".join(column.rjust(height)[level] for column in columns))
    for row in rows:
        cells = " ".join({True: " ", False: "F"}.get((row, column) not in pairs, "F") if (
            (row, column) not in pairs or pairs[row, column]) else "." for column in columns)
        lines.append(f"      {row.ljust(width)}  {cells}")
    return "\n".join(lines)


def failures(results, limit=12):
    """The first failures of a scenario, each with its label."""
    lines = []
    failed = [result for result in results if result.error]
    for result in failed[:limit]:
        lines.append(f"       {' -> '.join(result.label) or '-'}: {result.error}")
    if len(failed) > limit:
        lines.append(f"       … and {len(failed) - limit} more")
    return "\n".join(lines)


def show(scenario, results, grids):
    """Prints one scenario."""
    print(scenario_line(scenario, results), flush=True)
    failed = any(result.error for result in results)
    if scenario.grid and (grids or failed) and any(len(result.label) == 2 for result in results):
        print(grid(results), flush=True)
    if failed:
        print(failures(results), flush=True)
