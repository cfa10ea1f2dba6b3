"""Whether a figure can be read: nothing is cut off, and no text lies on another."""

import numpy as np


def assert_legible(figure):
    """Every text lies within the figure, and none on another."""
    figure.canvas.draw()
    texts = written(figure)
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert figure.bbox.padded(1).containsx(box.x0), text
        assert figure.bbox.padded(1).containsx(box.x1), text
        assert figure.bbox.padded(1).containsy(box.y0), text
        assert figure.bbox.padded(1).containsy(box.y1), text
    for i, one in enumerate(texts):
        for j, other in enumerate(texts[:i]):
            if one.get_rotation() == other.get_rotation() == 45:
                # Their boxes overlap where they themselves are parallel, and apart.
                apart = np.hypot(*(boxes[i].max - boxes[j].max)) * np.sin(np.pi / 4)
                assert apart > one.get_fontsize() * figure.dpi / 72, (one, other)
            else:
                assert not boxes[i].padded(-1).overlaps(boxes[j].padded(-1)), (one, other)


def written(figure):
    """All texts but those of ticks that are out of sight."""
    texts = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axis in figure.axes:
        texts += [*axis.texts, axis.xaxis.label, axis.yaxis.label, axis.title, axis._left_title]
        for side in (axis.xaxis, axis.yaxis):
            low, high = sorted(side.get_view_interval())
            ticks = [*side.get_major_ticks(), *side.get_minor_ticks()]
            texts += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]
