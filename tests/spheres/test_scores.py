"""Scores of a segmentation by area: by hand, scikit-learn as an oracle, exact weights in sums."""

import math

import pytest
import torch

from geomeq import datasets, spheres
from geomeq.spheres import weighted_f1, weighted_iou


def test_scores_weigh_nodes_by_area():
    target, area = torch.tensor([[1, 1, 0, 0, -1]]), torch.tensor([4.0, 1.0, 2.0, 3.0, 100.0])
    prediction = torch.tensor([[1, 0, 1, 0, 1]])
    assert weighted_f1(prediction, target, area) == pytest.approx(8 / (8 + 2 + 1))
    assert weighted_iou(prediction, target, area) == pytest.approx(4 / (4 + 2 + 1))
    assert weighted_f1(prediction, target, torch.ones(5)) == pytest.approx(0.5)  # another number without areas
    assert weighted_f1(prediction, target, area, positive=0) == pytest.approx(6 / (6 + 1 + 2))
    assert weighted_f1(target, target, area) == 1
    assert math.isnan(weighted_f1(torch.zeros(2), torch.zeros(2), torch.ones(2)))


def test_scores_agree_with_scikit_learn():
    from sklearn.metrics import f1_score, jaccard_score

    random = torch.Generator().manual_seed(0)
    prediction, target = torch.randint(0, 2, (2, 7, 30), generator=random)
    area = torch.rand(30, generator=random)
    weight = area.expand(7, 30).flatten().numpy()
    flat = target.flatten().numpy(), prediction.flatten().numpy()
    assert weighted_f1(prediction, target, area) == pytest.approx(f1_score(*flat, sample_weight=weight), rel=1e-6)
    assert weighted_iou(prediction, target, area) == pytest.approx(jaccard_score(*flat, sample_weight=weight), rel=1e-6)


def test_scores_check_shapes():
    with pytest.raises(ValueError, match=r"area must have shape \[3\], got \[2\]"):
        weighted_f1(torch.zeros(4, 3), torch.zeros(4, 3), torch.ones(2))
    with pytest.raises(ValueError, match=r"target must have shape \[4, 3\], got \[3\]"):
        weighted_iou(torch.zeros(4, 3), torch.zeros(3), torch.ones(3))


@pytest.mark.parametrize("score", [weighted_f1, weighted_iou])
def test_logits_are_no_labels_and_what_is_ignored_has_no_area(score):
    target, area = torch.tensor([1, 0, -1]), torch.tensor([1.0, 2.0, math.nan])
    with pytest.raises(TypeError, match="prediction must hold labels, got numbers .*; take argmax or a threshold"):
        score(torch.tensor([0.9, 0.1, 0.3]), target, area)
    assert score(torch.tensor([1.0, 0.0, 1.0]), target, area) == 1


def test_scores_of_an_image_are_those_of_a_sampling_with_cells_of_its_areas():
    """The polar rows of a panorama hardly count: half the pixels wrong at the poles is a small loss."""
    s = spheres.driscoll_healy(16)
    target = torch.ones(s.num_nodes, dtype=torch.long)
    polar = (s.pos[:, 2].abs() > 0.95).long()
    missed = float(s.area[polar == 1].sum()) / (4 * math.pi)
    assert weighted_iou(target - polar, target, s.area) == pytest.approx(1 - missed)
    assert missed < 0.06 < 0.15 < float(polar.double().mean())  # nodes counted equally would say another thing


def test_data_sets_still_name_the_scores():
    assert datasets.weighted_f1 is weighted_f1
    assert datasets.weighted_iou is weighted_iou
