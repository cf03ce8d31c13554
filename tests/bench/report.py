"""The table, for people: what was measured, on what, by which commands."""
import os
import pathlib
import platform
import re
import statistics
import time

BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"


def machine():
    """What it was measured on."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.+)", text)
    return {
        "cpu": model[1].strip() if model else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load_before": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d"),
    }


def figure(value, unit):
    """A number and its unit, short."""
    if value is None:
        return "-"
    if unit == "per_second":
        return f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1e3:,.1f} k/s"
    if unit == "bytes_each":
        return f"{value / 1024:.1f} KiB"
    return f"{value:.0f} µs" if unit.endswith("_us") else f"{value:.0f} ms"


def seconds(value):
    return "" if value is None else f" ({value:.2f} s)"


def star(value, notes):
    """For a router that may be faster."""
    return "*" if value is not None and any("bottleneck" in note for note in notes) else ""


def brief(error):
    """Its last line, which says the most, for a cell."""
    last = re.sub(r"\x1b\[[\d;]*m", "", error.splitlines()[-1]).strip()
    return "`" + last[:100].replace("`", "'").replace("|", "\\|") + "`"


def mark(is_met):
    return {True: " ✓", False: " ✗", None: ""}[is_met]


def line(row, result, is_first=True):
    """A line of the table; what all lines of a row have in common stands in the first."""
    unit = result["figure"]
    # Of work that is not done at full speed, processor time says little.
    is_rate = unit == "per_second"
    title = row.title + {"p50_us": ", p50", "p99_us": ", p99"}.get(unit, "")
    ours = figure(result["ours"], unit) + star(result["ours"], result["notes"]) + (seconds(result["cpu_s_per_million"]) if is_rate else "")
    theirs, ratio, aims = "", "", []
    if result["peer"]:
        theirs = f"{result['peer']} {figure(result['theirs'], unit)}{star(result['theirs'], result['notes_of_peer'])}"
        theirs += seconds(result["cpu_s_per_million_of_peer"]) if is_rate else ""
        ratio = "-" if result["ratio"] is None else f"{result['ratio']:.{1 if result['ratio'] >= 2 else 2}f}"
        if is_rate and result["cpu_ratio"]:
            ratio += f" ({result['cpu_ratio']:.1f})"
        aim = row.against[result["peer"]]
        aims += [aim.text("×") + mark(result["is_met"])] if aim else []
    if row.own and is_first:
        scale, name = {"bytes_each": (1024, " KiB"), "per_second": (1e6, " M/s"), "start_ms": (1, " ms")}[unit]
        own = type(row.own)(row.own.at_least and row.own.at_least / scale, row.own.at_most and row.own.at_most / scale)
        aims.append(own.text(name) + mark(result["is_own_met"]))
    lost = [f"{name} lost {count:,}" for name, count in (("Corsac", result["lost"]), (result["peer"], result["lost_by_peer"])) if count]
    if result["rounds_that_count"] < result["rounds"]:
        lost.append(f"{result['rounds_that_count']} of {result['rounds']} rounds count")
    if result["failed"]:
        lost.append(f"{result['failed']} failed: {brief(result['error'])}")
    loss = "; ".join(lost) or "none"
    work = f"`{' '.join(row.work)}`" if row.work else ""
    if row.kind == "crossing":
        work = "`pubsub ws://… --subscribe-at mqtt://…`"
    title, work = (title, work) if is_first else ("", "")
    return f"| {title} | {work} | {ours} | {theirs} | {ratio} | {', '.join(aims)} | {loss} |"


def table(rows, results):
    by_name, seen, lines = {row.name: row for row in rows}, set(), []
    for result in results:
        what = result["row"], result["figure"]
        lines.append(line(by_name[result["row"]], result, what not in seen) + "\n")
        seen.add(what)
    head = "| work | `corsac bench` | Corsac | other | ratio | aim | lost |\n|---|---|---|---|---|---|---|\n"
    return head + "".join(lines)


def circumstances(report):
    """What was measured how, on what, and between which versions."""
    machine, results = report["machine"], report["results"]
    names = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    disk = next((result["disk_syncs_per_second"] for result in results if result["disk_syncs_per_second"]), None)
    disk = f", a disk that syncs {disk:,.0f} times a second" if disk else ""
    fewer = min((result["rounds"] for result in results), default=report["rounds"])
    fewer = f" ({fewer} for memory, with fresh routers)" if fewer < report["rounds"] else ""
    return (
        f"64-byte payloads over loopback, the load generator on the same machine. Each figure, the ratio too, is a median of {report['rounds']} "
        f"alternating rounds{fewer} of {report['seconds']:g} s. In parentheses: processor time of the router for a million messages, "
        f"and how many times as much the other took.\n\n"
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}{disk}; {names}; "
        f"{machine['date']}, load average {machine['load_before']:.1f} before.\n"
    )


def page(rows, report):
    """The whole of tests/bench/README.md."""
    results, stars = report["results"], ""
    if any(star(result["ours"], result["notes"]) or star(result["theirs"], result["notes_of_peer"]) for result in results):
        stars = "`*`: in at least one round the load generator or the machine was the bottleneck, and the router may be faster.\n\n"
    return (
        f"# Speed\n\n{circumstances(report)}\n{table(rows, results)}\n{stars}"
        "Measured, and this page written, by `cargo build --release && tests/bench/install && tests/bench/compare`;\n"
        "[`peers.py`](peers.py) says how each router is set up, [`rows.py`](rows.py) what is measured and aimed at.\n"
        "`tests/bench/compare --growth` draws how the figures grow with [connections](growth-connections.svg),\n"
        "[subscriptions](growth-match.svg), [memory for each](growth-memory.svg), and the history's length\n"
        "([appending](growth-append.svg), [reading](growth-read.svg)); `cargo bench` measures the parts.\n"
    )


def in_brief(rows, report):
    """A few rows of rates for the README, each in one line with all peers; our figure is the median of those beside them."""
    lines = []
    for row in rows:
        found = [result for result in report["results"] if result["row"] == row.name and result["peer"]]
        if row.in_brief and found:
            ours = figure(statistics.median(result["ours"] for result in found), found[0]["figure"])
            others = ", ".join(f"{result['peer']} {figure(result['theirs'], result['figure'])}" for result in found)
            lines.append(f"| {row.in_brief} | {ours} | {others} |\n")
    return f"{BEGIN}\n| messages or calls a second | Corsac | others |\n|---|---|---|\n{''.join(lines)}{END}"


def write_readme(path, text):
    """Replaces what stands between the markers."""
    readme = path.read_text()
    if BEGIN not in readme:
        raise RuntimeError(f"{path} has no {BEGIN}: put it and {END} where the table belongs")
    path.write_text(re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: text, readme, flags=re.S))
