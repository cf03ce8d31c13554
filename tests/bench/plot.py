"""Line charts as SVG, on paper of their own: readable on light and dark pages."""
import html
import math

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 44, 56
COLOURS = ["#0b7285", "#d9480f", "#5f3dc4", "#2b8a3e", "#a61e4d", "#868e96"]
STYLE = (
    "text{font:13px sans-serif;fill:#212529}.title{font-size:16px;font-weight:bold}.grid{stroke:#dee2e6}"
    ".line{fill:none;stroke-width:2.2}.paper{fill:#ffffff}"
)


class Axis:
    """Values to pixels by their logarithm, in whole powers of ten."""

    def __init__(self, values, low_px, high_px):
        self.low_px, self.high_px = low_px, high_px
        self.low = math.floor(math.log10(min(values)) + 1e-9)
        self.high = max(math.ceil(math.log10(max(values)) - 1e-9), self.low + 1)

    def place(self, value):
        return self.low_px + (math.log10(value) - self.low) / (self.high - self.low) * (self.high_px - self.low_px)

    def ticks(self):
        return [10.0**power for power in range(self.low, self.high + 1)]


def short(value):
    """1500000 as 1.5M."""
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:g}{letter}"
    return f"{value:g}"


def text(x, y, content, anchor="middle", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{html.escape(content)}</text>'


def legend(series):
    parts, x = [], 24
    for (name, _), colour in zip(series, COLOURS):
        parts.append(f'<rect x="{x}" y="{TOP - 14}" width="14" height="4" fill="{colour}"/>' + text(x + 19, TOP - 8, name, "start"))
        x += 34 + 7.4 * len(name)
    return parts


def chart(title, x_label, y_label, series):
    """An SVG of `series`, pairs of a name and its points; both axes are logarithmic."""
    series = [(name, points) for name, points in series if points]
    xs = Axis([x for _, points in series for x, _ in points], LEFT, WIDTH - RIGHT)
    ys = Axis([y for _, points in series for _, y in points], HEIGHT - BOTTOM, TOP + 6)
    parts = [f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>', text(WIDTH / 2, 20, title, extra=' class="title"')]
    for tick in xs.ticks():
        x = xs.place(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP + 6}V{HEIGHT - BOTTOM}"/>' + text(x, HEIGHT - BOTTOM + 18, short(tick)))
    for tick in ys.ticks():
        y = ys.place(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>' + text(LEFT - 8, y + 4, short(tick), "end"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label))
    parts.append(text(0, 0, y_label, extra=f' transform="translate(20 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'))
    parts += legend(series)
    for (name, points), colour in zip(series, COLOURS):
        places = [(xs.place(x), ys.place(y)) for x, y in points]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path class="line" stroke="{colour}" d="M{line}"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{html.escape(name)}: {point[0]:g}, {point[1]:.4g}</title></circle>'
            for (x, y), point in zip(places, points)
        ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>\n"])
