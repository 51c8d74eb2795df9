"""Work space: the same memory again, but never for two uses, two threads or large requests."""

import threading

import torch

from geomeq.ops import _scratch
from geomeq.ops._scratch import scratch


def test_the_same_name_has_the_same_memory_and_another_name_another():
    like = torch.zeros(1)
    first, other = scratch("test a", like, 4, 5), scratch("test b", like, 4, 5)
    assert scratch("test a", like, 20).data_ptr() == first.data_ptr() != other.data_ptr()
    assert first.shape == (4, 5)
    assert scratch("test a", like, 4, 5, dtype=torch.complex64).dtype == torch.complex64
    assert scratch("test a", like.double(), 3).data_ptr() != first.data_ptr()


def test_it_grows_and_what_was_handed_out_stays_valid():
    like = torch.zeros(1)
    small = scratch("test grow", like, 10).fill_(3.0)
    large = scratch("test grow", like, 1000)
    large.fill_(5.0)
    assert bool((small == 3).all())
    assert scratch("test grow", like, 10).data_ptr() == large.data_ptr()


def test_large_requests_are_not_kept(monkeypatch):
    monkeypatch.setattr(_scratch, "_LIMIT", 100)
    like = torch.zeros(1)
    first = scratch("test large", like, 50)
    assert scratch("test large", like, 50).data_ptr() != first.data_ptr()


def test_what_is_first_used_in_inference_mode_serves_in_training():
    like = torch.zeros(1)
    with torch.inference_mode():
        scratch("test inference", like, 8).fill_(1.0)
    scratch("test inference", like, 8).fill_(2.0)  # would raise for an inference tensor


def test_threads_do_not_share():
    like, found = torch.zeros(1), []
    mine = scratch("test thread", like, 8)

    def use() -> None:
        found.append(scratch("test thread", like, 8))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert found[0].data_ptr() != mine.data_ptr()
