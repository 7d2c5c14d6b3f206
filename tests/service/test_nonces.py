from pathlib import Path

import pytest

from service.nonces import Full, Nonces
from service.shared import Shared


def test_one_is_taken_once_and_again_when_it_is_forgotten() -> None:
    nonces = Nonces(10.0, 2)
    assert nonces.take("a", now_s=0.0)
    assert not nonces.take("a", now_s=0.0)
    assert not nonces.take("a", now_s=10.0)
    assert nonces.take("a", now_s=10.1)


def test_none_is_forgotten_early_however_many_come() -> None:
    nonces = Nonces(10.0, 2)
    assert nonces.take("a", now_s=0.0)
    assert nonces.take("b", now_s=5.0)
    with pytest.raises(Full):
        nonces.take("c", now_s=9.0)
    assert not nonces.take("a", now_s=9.0)
    assert nonces.take("c", now_s=11.0)
    assert not nonces.take("b", now_s=11.0)


def test_none_is_taken_that_another_process_took(tmp_path: Path) -> None:
    one, other = (Nonces(10.0, 2, Shared(tmp_path), "n ") for _ in range(2))
    assert one.take("a", now_s=0.0)
    assert not other.take("a", now_s=0.0)
    assert Nonces(10.0, 2, Shared(tmp_path), "m ").take("a", now_s=0.0)
    assert one.take("b", now_s=11.0)  # and so "a" is forgotten, by all
    assert other.take("a", now_s=11.0)
