"""The cache: fingerprints, interrupted runs, damaged files, folders that cannot be written."""

import functools
import os
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import BaseTransform, Compose, Distance

from geomeq.datasets import NBody, cache_root, fingerprint
from geomeq.datasets import nbody as nbody_module


def small(root, **kw):
    return NBody(root, num_systems=3, **kw)


def files(root) -> list[str]:
    return sorted(path.name for path in Path(root).rglob("*") if path.is_file())


@pytest.fixture
def simulations(monkeypatch):
    """Counts how often the data are made."""
    calls = []
    original = nbody_module._simulate.charged
    monkeypatch.setattr(nbody_module._simulate, "charged", lambda *a: calls.append(1) or original(*a))
    return calls


class Scale(BaseTransform):
    def __init__(self, factor):
        self.factor = factor

    def forward(self, data):
        data.pos = data.pos * self.factor
        return data

    def __repr__(self):  # hides its argument, as many transforms do
        return "Scale()"


class TestFingerprint:
    def test_equal_settings_have_equal_names(self):
        assert fingerprint(Compose([Scale(2.0), Distance()])) == fingerprint(Compose([Scale(2.0), Distance()]))
        assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})

    def test_it_is_the_same_in_every_process(self):
        assert fingerprint("a", 1, 2.5, None, [torch.arange(3)]) == "3dec8c0dba99"

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            (Scale(2.0), Scale(3.0)),
            (lambda d: d.num_nodes > 3, lambda d: d.num_nodes > 4),
            (functools.partial(pow, 2), functools.partial(pow, 3)),
            (torch.zeros(3), torch.zeros(3, dtype=torch.float64)),
            (Scale(torch.zeros(2)), Scale(torch.ones(2))),
            (1, "1"),
            (1, True),
            ([1, [2]], [[1], 2]),
            (None, ()),
        ],
    )
    def test_different_settings_have_different_names(self, a, b):
        assert fingerprint(a) != fingerprint(b)

    def test_a_closure_counts(self):
        def at_least(k):
            return lambda data: data.num_nodes >= k

        assert fingerprint(at_least(3)) == fingerprint(at_least(3))
        assert fingerprint(at_least(3)) != fingerprint(at_least(4))

    def test_an_object_that_holds_itself(self):
        scale = Scale(1.0)
        scale.me = scale
        assert len(fingerprint(scale)) == 12


def test_the_second_time_nothing_is_made(tmp_path, simulations):
    first, second = small(tmp_path), small(tmp_path)
    assert simulations == [1]
    assert torch.equal(first[2].y, second[2].y)
    assert list(first[2].to_dict()) == list(second[2].to_dict())
    small(tmp_path, force_reload=True)
    assert simulations == [1, 1]


def test_another_pre_transform_or_pre_filter_is_another_file(tmp_path, simulations):
    plain, doubled, tripled = small(tmp_path), *(small(tmp_path, pre_transform=Scale(k)) for k in (2.0, 3.0))
    assert torch.equal(doubled[1].pos, plain[1].pos * 2)
    assert torch.equal(tripled[1].pos, plain[1].pos * 3)
    x = plain[1].pos[0, 0].item()
    chosen = small(tmp_path, pre_filter=lambda d: d.pos[0, 0].item() != x)
    assert len(chosen) == 2
    assert len(simulations) == 4
    assert len(set(Path(tmp_path).glob("processed/*"))) == 4


def test_a_new_version_is_another_file(tmp_path, simulations, monkeypatch):
    small(tmp_path)
    monkeypatch.setattr(NBody, "version", "next")
    small(tmp_path)
    assert len(simulations) == 2


def test_transform_is_applied_at_access_and_not_stored(tmp_path, simulations):
    scaled, plain = small(tmp_path, transform=Scale(2.0)), small(tmp_path)
    assert torch.equal(scaled[0].pos, plain[0].pos * 2)
    assert simulations == [1]


def test_pre_filter_that_keeps_one_or_none(tmp_path):
    seen = []
    one = small(tmp_path, pre_filter=lambda d: seen.append(d) or len(seen) == 2)
    assert len(one) == 1
    assert one[0].pos.shape == (5, 3)
    assert len(small(tmp_path / "single")[:1]) == 1
    with pytest.raises(ValueError, match="pre_filter rejected all 3 samples of NBody"):
        small(tmp_path, pre_filter=lambda d: False)


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    save = torch.save

    def interrupted(stored, file):
        file.write(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path)
    assert files(tmp_path) == []
    monkeypatch.setattr(torch, "save", save)
    assert len(small(tmp_path)) == 3


def test_an_interrupted_pre_transform_leaves_nothing_behind(tmp_path):
    def stop(data):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(tmp_path, pre_transform=stop)
    assert files(tmp_path) == []


def test_a_killed_run_does_not_disturb_the_next(tmp_path):
    done = Path(small(tmp_path).processed_paths[0])
    done.rename(done.with_name("data.ptabc.part"))  # what a killed process leaves: a part, not the file itself
    assert len(small(tmp_path)) == 3
    assert done.is_file()


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"not a file" * 99])
def test_a_damaged_processed_file_is_made_again_aloud(tmp_path, damage):
    first = small(tmp_path)
    path = Path(first.processed_paths[0])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"data\.pt is damaged .*; building it again"):
        again = small(tmp_path)
    assert torch.equal(first[0].y, again[0].y)
    assert torch.equal(small(tmp_path)[0].y, first[0].y)  # and now it is whole: no warning


def test_a_cache_that_cannot_be_written_is_said_aloud_and_works(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.warns(UserWarning, match="cannot be written .*GEOMEQ_CACHE a folder that can be written"):
        data = small(tmp_path)
    assert len(data) == 3
    assert files(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.warns(UserWarning, match="cannot be written"):
        assert len(small(tmp_path)) == 3
    tmp_path.chmod(0o700)


def test_a_read_only_folder_with_the_file_in_it_is_only_read(tmp_path, monkeypatch):
    small(tmp_path)
    monkeypatch.setattr(tempfile, "mkstemp", None)
    assert len(small(tmp_path)) == 3


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def full(stored, file):
        file.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert len(small(tmp_path)) == 3
    assert files(tmp_path) == []


def test_what_cannot_be_read_back_without_pickle_is_refused(tmp_path):
    def strange(data):
        data.odd = object()
        return data

    with pytest.raises(TypeError, match="pre_transform wrote the attribute 'odd' of type object"):
        small(tmp_path, pre_transform=strange)


def test_the_root_is_the_cache_folder(cache, monkeypatch):
    assert cache_root() == cache
    assert Path(NBody(num_systems=1).root) == cache / "nbody"
    monkeypatch.delenv("GEOMEQ_CACHE")
    assert cache_root() == Path.home() / ".cache" / "geomeq"


class Pair(Data):
    """A class of samples with a number of its own that counts in batches."""

    def __inc__(self, key, value, *args, **kwargs):
        return 100 if key == "partner_index" else super().__inc__(key, value, *args, **kwargs)


def with_partner(data):
    return Pair(**data.to_dict(), partner_index=torch.arange(5))


def test_the_class_of_the_samples_is_kept(tmp_path, simulations):
    for _ in range(2):  # made, then read
        data = small(tmp_path, pre_transform=with_partner)
        assert type(data[0]) is Pair
        batch = next(iter(DataLoader(data, batch_size=3)))
        assert batch.partner_index[5:10].tolist() == [100, 101, 102, 103, 104]
    assert len(simulations) == 1
    assert type(small(tmp_path)[0]) is Data


def test_a_class_that_is_not_there_is_not_fetched(tmp_path, simulations):
    small(tmp_path, pre_transform=with_partner)
    (path,) = Path(tmp_path).rglob("data.pt")
    stored = torch.load(path, weights_only=True)
    torch.save({**stored, "class": "antigravity.Data"}, path)
    with pytest.warns(UserWarning, match="damaged"):
        assert type(small(tmp_path, pre_transform=with_partner)[0]) is Pair
    assert "antigravity" not in sys.modules
    assert len(simulations) == 2
    del stored["class"]  # a file from before classes were noted
    torch.save(stored, path)
    assert type(small(tmp_path, pre_transform=with_partner)[0]) is Data
