"""Draw the picture that opens the book, book/_static/emoji.png, from the stored emoji model: python book/emoji.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import torch
from matplotlib import pyplot as plt

from minigen import data, runs, show
from minigen.recipes.diffusion import draw_emoji_for

SUBCATEGORIES = ("face-smiling", "face-concerned", "face-costume", "heart", "person", "person-role", "person-fantasy")
SUBCATEGORIES += ("person-sport", "time", "clothing", "alphanum", "arrow")

torch.set_num_threads(1)
loaded = runs.stored("diffusion", "emoji")
names = data.emoji().subcategory_names
columns = torch.tensor([names.index(name) for name in SUBCATEGORIES])
style = torch.tensor([0, 0, 1, 1]).repeat_interleave(len(columns))
drawn = draw_emoji_for(loaded.run, style, columns.repeat(4), task=loaded.recipe.task)
figure, axes = plt.subplots(figsize=(9.6, 3.5))
axes.imshow(show.tiles(drawn, columns=len(columns)), interpolation="nearest")
axes.set_xticks(
    [33 * i + 17 for i in range(len(columns))],
    [n.removeprefix("person-").removeprefix("face-") for n in SUBCATEGORIES],
    fontsize=7,
)
axes.set_yticks([33 * i + 33 for i in (0, 2)], ["Twemoji", "Noto"], fontsize=8)
axes.tick_params(length=0)
for side in axes.spines.values():
    side.set_visible(False)
figure.tight_layout()
(Path(__file__).parent / "_static" / "emoji.png").write_bytes(show.png(figure, dpi=120))
