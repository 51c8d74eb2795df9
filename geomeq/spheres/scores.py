"""Scores of a segmentation whose nodes stand for areas of different size."""

import torch
from torch import Tensor

from .._checks import check_shape


def weighted_f1(prediction: Tensor, target: Tensor, area: Tensor, positive: int = 1, ignore: int = -1) -> float:
    r"""Harmonic mean of precision and recall, nodes counted by their area.

    .. math:: F_1 = \frac{2\, TP}{2\, TP + FP + FN}

    Args:
        prediction: Labels ``[..., N]``.
        target: Labels ``[..., N]``.
        area: Of each node, ``[N]``.
        positive: The label that is looked for.
        ignore: Nodes with this target do not count.

    Returns:
        From 0 to 1, over all samples together; NaN if nothing is positive in either.

    Raises:
        TypeError: If the prediction holds numbers that are no labels, such as logits.
        ValueError: If the shapes do not fit.

    Example:
        >>> import torch
        >>> found, truth = torch.tensor([1, 1, 0, 1]), torch.tensor([1, 0, 0, -1])
        >>> weighted_f1(found, truth, torch.tensor([3.0, 2.0, 1.0, 9.0]))
        0.75
    """
    hit, wrong, missed = _areas(prediction, target, area, positive, ignore)
    return _ratio(2 * hit, 2 * hit + wrong + missed)


def weighted_iou(prediction: Tensor, target: Tensor, area: Tensor, positive: int = 1, ignore: int = -1) -> float:
    r"""Intersection over union of the positive regions, :math:`TP / (TP + FP + FN)`, as areas.

    Arguments as those of :func:`weighted_f1`.
    """
    hit, wrong, missed = _areas(prediction, target, area, positive, ignore)
    return _ratio(hit, hit + wrong + missed)


def _areas(prediction: Tensor, target: Tensor, area: Tensor, positive: int, ignore: int) -> tuple[float, float, float]:
    """Areas of true positives, false positives and false negatives, summed in float64."""
    check_shape("target", target, *prediction.shape)
    check_shape("area", area, prediction.size(-1))
    if prediction.is_floating_point() and bool((prediction != prediction.round()).any()):
        raise TypeError(
            f"prediction must hold labels, got numbers ({prediction.dtype}); take argmax or a threshold first"
        )
    weight = torch.where(target != ignore, area.double(), 0.0)
    found, truth = prediction == positive, target == positive
    return tuple(float((weight * where).sum()) for where in (found & truth, found & ~truth, ~found & truth))  # type: ignore[return-value]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
