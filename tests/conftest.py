"""Fixtures of the whole suite."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def compiled() -> Callable[..., Any]:
    """``torch.compile(fullgraph=True)`` whose call keeps torch's own warnings about itself from being errors."""

    def compile_function(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        made = torch.compile(function, fullgraph=True, **options)

        def call(*args: Any, **kwargs: Any) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return made(*args, **kwargs)

        return call

    return compile_function
