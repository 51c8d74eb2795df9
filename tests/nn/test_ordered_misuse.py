"""What OrderedConv refuses, and how it says so."""

import pytest
import torch

from geomeq.nn import OrderedConv, OrderedConvTranspose
from geomeq.spheres import healpix_neighbours

NEAR = healpix_neighbours(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nside": 3}, "power of 2"),
        ({"nside": 0}, "at least 1"),
        ({"nside": 4, "stride": 3}, "stride must be 1, or 4"),
        ({"nside": 4, "stride": 2}, "stride must be 1, or 4"),
        ({"nside": 1, "stride": 4}, "at least 2"),
        ({"nside": 4, "hops": 5}, "reach over more than a face"),
        ({"nside": 4, "hops": 2, "dilation": 4}, "reach over more than a face"),
        ({"nside": 4, "hops": -1}, "hops"),
        ({"nside": 4, "groups": 4}, "groups must divide"),
        ({"nside": 4, "dilation": 0}, "dilation"),
        ({"nside": 4, "missing": "wrap"}, "missing must be one of"),
        ({"nside": 4, "path": "fast"}, "path must be one of"),
        ({"nside": 4, "path": "face", "distance": True}, "not for weights by distance"),
        ({"nside": 4, "path": "face", "pixels": torch.arange(5)}, "not for pixels of your own"),
        ({"nside": 4, "pixels": torch.tensor([3, 2])}, "increase"),
        ({"nside": 4, "pixels": torch.tensor([2, 2])}, "increase"),
        ({"nside": 4, "pixels": torch.tensor([192])}, "0..191"),
        ({"nside": 4, "pixels": torch.arange(6), "stride": 4}, "siblings"),
        ({"nside": 4, "pixels": torch.arange(2, 6), "stride": 4}, "siblings"),
        ({"pixels": torch.arange(4)}, "give its nside"),
        ({"nside": 2, "neighbours": NEAR}, "one of nside"),
        ({"neighbours": NEAR, "stride": 4}, "need nside"),
        ({"neighbours": NEAR, "hops": 2}, "need nside"),
        ({"neighbours": NEAR + 1}, "0..47"),
        ({"neighbours": NEAR, "path": "face"}, "not for pixels of your own or a graph"),
        ({"edge_index": torch.tensor([[0], [1]])}, "needs edge_type"),
        ({"edge_index": torch.tensor([[0], [1]]), "edge_type": torch.tensor([0])}, "at least 1"),
        ({"edge_index": torch.tensor([[0], [1]]), "edge_type": torch.tensor([1]), "path": "gather"}, "path='edge'"),
        (
            {"edge_index": torch.tensor([[0], [1]]), "edge_type": torch.tensor([1]), "missing": "average"},
            "table of neighbours",
        ),
    ],
    ids=range(29),
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        OrderedConv(6, 6, **options)


@pytest.mark.parametrize("channels", [0, -1, 2.0, True])
def test_channels_are_positive_integers(channels):
    with pytest.raises(ValueError, match="in_channels"):
        OrderedConv(channels, 3, 4)


@pytest.mark.parametrize("kind", [OrderedConv, OrderedConvTranspose])
def test_signals_of_another_shape(kind):
    layer = kind(2, 3, 4)
    for shape in ((2, 191, 2), (192, 3), (192,), (1, 1, 192, 2)):
        with pytest.raises(ValueError, match="x must have shape"):
            layer(torch.zeros(shape))
    with pytest.raises(TypeError, match="floating point"):
        layer(torch.zeros(192, 2, dtype=torch.long))
    free = kind(2, 3)
    for pixels in (0, 13, 8, 12 * 9):
        with pytest.raises(ValueError, match="12 \\* 4\\^k pixels"):
            free(torch.zeros(pixels, 2))


def test_resolutions_that_come_and_cannot_be():
    with pytest.raises(ValueError, match="reach over more"):
        OrderedConv(2, 3, hops=2)(torch.zeros(12, 2))
    with pytest.raises(ValueError, match="at least 2"):
        OrderedConv(2, 3, stride=4)(torch.zeros(12, 2))
    for path in ("face", "gather", "edge"):
        with pytest.raises(ValueError, match="a patch has at least 4 pixels"):
            OrderedConv(2, 3, stride=4, path=path)(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="differ from patch to patch"):
        OrderedConv(2, 3, distance=True)(torch.zeros(16, 2))


def test_indices_are_integers():
    with pytest.raises(TypeError, match="integers"):
        OrderedConv(2, 3, neighbours=NEAR.float())
    with pytest.raises(TypeError, match="integers"):
        OrderedConv(2, 3, 4, pixels=torch.tensor([1.0]))
    with pytest.raises(TypeError, match="integers"):
        OrderedConv(2, 3, edge_index=torch.tensor([[0], [1]]), edge_type=torch.tensor([1.0]))
