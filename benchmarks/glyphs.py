"""Glyphs drawn in a second: `draw_glyphs`, all at once, beside the same glyphs drawn one at a time with PIL; both in one run.

The plain side gets its pen paths ready made, for nothing, and only draws them: lines on a canvas of four times the size, a
Gaussian blur, the crop, a square with a border, a bicubic resize. Ours is timed whole: chance, hands, paths, frame and ink.
So the ratio, which comes last, flatters the plain side. That both draw the same is checked: the two images of a glyph must
be more alike than images of different glyphs.

`glyphs.py [--count 20000] [--plain 1000]`
"""

import argparse
import time

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from text_recognizer.data.glyphs.draw import BORDER, SIZE, draw_glyphs, pen_paths
from text_recognizer.metadata.emnist import CHARACTERS, NUM_SPECIAL_TOKENS

WANTED_RATE = 5000
ZOOM = 4


def draw_plainly(points: np.ndarray, strokes: np.ndarray, pen: float) -> np.ndarray:
    """One glyph: points (P, 2) in pixels of the frame, the stroke of each (P,), the pen's width."""
    canvas = Image.new("L", (SIZE * ZOOM, SIZE * ZOOM))
    brush, width = ImageDraw.Draw(canvas), pen * ZOOM
    for stroke in np.unique(strokes):
        path = [((x + 0.5) * ZOOM, (y + 0.5) * ZOOM) for x, y in points[strokes == stroke]]
        brush.line(path, fill=255, width=max(1, round(width)), joint="curve")
        for x, y in (path[0], path[-1]):
            brush.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    canvas = canvas.filter(ImageFilter.GaussianBlur(1.5))
    canvas = canvas.crop(canvas.getbbox())
    inner = SIZE - 2 * BORDER
    scale = inner / max(canvas.size)
    canvas = canvas.resize([max(1, round(side * scale)) for side in canvas.size], Image.Resampling.BICUBIC)
    frame = Image.new("L", (SIZE, SIZE))
    frame.paste(canvas, ((SIZE - canvas.width) // 2, (SIZE - canvas.height) // 2))
    return np.asarray(frame)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="glyphs that ours draws")
    parser.add_argument("--plain", type=int, default=1_000, help="glyphs of them that the plain side draws")
    args = parser.parse_args()
    labels = NUM_SPECIAL_TOKENS + torch.arange(args.count) % len(CHARACTERS)
    writers = torch.arange(args.count) // len(CHARACTERS)
    draw_glyphs(labels[:100], writers[:100])  # the skeletons are read once, on first use, by neither side's clock

    paths = pen_paths(labels[: args.plain], writers[: args.plain].numpy(), np.zeros(args.plain, np.int64), seed=0)
    points, strokes, pens = (part.numpy() for part in paths[:3])

    def plain() -> np.ndarray:
        return np.stack([draw_plainly(points[i], strokes[i], float(pens[i])) for i in range(args.plain)])

    rates = {"plain": [], "ours": []}
    for _ in range(3):  # in turns, so that a neighbour on the machine disturbs both
        start = time.perf_counter()
        by_hand = plain()
        rates["plain"].append(args.plain / (time.perf_counter() - start))
        start = time.perf_counter()
        images = draw_glyphs(labels, writers)
        rates["ours"].append(args.count / (time.perf_counter() - start))
    a, b = (np.reshape(x[: args.plain], (args.plain, -1)) / 255.0 for x in (images.numpy(), by_hand))
    same, other = np.abs(a - b).mean(), np.abs(a - np.roll(b, 1, 0)).mean()
    assert same < 0.5 * other, f"the two sides draw different things: {same:.3f} against {other:.3f}"

    best = {side: max(values) for side, values in rates.items()}
    print(f"{torch.get_num_threads()} threads; best of 3, and all three")
    for side, values in rates.items():
        print(f"{side:6s} {best[side]:10,.0f} glyphs/s   ({', '.join(f'{value:,.0f}' for value in values)})")
    print(f"wanted {WANTED_RATE:10,d} glyphs/s: {'reached' if best['ours'] >= WANTED_RATE else 'NOT reached'}")
    print(f"the two images of a glyph differ by {same:.3f} a pixel, those of different glyphs by {other:.3f}")
    print(f"ratio  {best['ours'] / best['plain']:.1f}")


if __name__ == "__main__":
    main()
