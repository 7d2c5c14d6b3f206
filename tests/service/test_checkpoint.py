import base64
import string
import time

import pytest

from ser_core.errors import CheckpointRejected
from service.checkpoint import MAX_TOKEN_CHARS, CheckpointSeal, StreamState

KEY, OTHER_KEY = b"k" * 32, b"o" * 40
STATE = StreamState(
    session_id="s",
    query={"sample_rate": 8000},
    model="tiny@1.0.0",
    model_sha256="0" * 64,
    audio_from=16_000,
    n_dropped_samples=3,
    n_dropped_segments=1,
    session={"n_received": 5, "channels": [{"total": [0.1, 1 / 3]}]},
)


def code_of(seal: CheckpointSeal, token: str, now_s: float = 0) -> str:
    with pytest.raises(CheckpointRejected) as rejected:
        seal.open(token, now_s)
    return rejected.value.code


def test_what_is_sealed_is_opened_by_another_replica() -> None:
    token = CheckpointSeal([KEY]).seal(STATE, now_s=0)
    assert CheckpointSeal([KEY]).open(token, now_s=1) == STATE


def test_a_token_says_nothing_to_who_has_no_key() -> None:
    tokens = {CheckpointSeal([KEY]).seal(STATE, now_s=0) for _ in range(3)}
    assert len(tokens) == 3
    for token in tokens:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        assert b"tiny" not in data
        assert set(token) <= set(string.ascii_letters + string.digits + "-_")


def test_keys_are_rotated_without_a_gap() -> None:
    """Add the new key last everywhere, then put it first everywhere, then take the old one away."""
    old, both = CheckpointSeal([KEY]), CheckpointSeal([KEY, OTHER_KEY])
    turned, new = CheckpointSeal([OTHER_KEY, KEY]), CheckpointSeal([OTHER_KEY])
    for sealing, opening in (
        (old, both),
        (both, old),
        (both, turned),
        (turned, both),
        (turned, new),
    ):
        assert opening.open(sealing.seal(STATE, 0), 0) == STATE
    assert code_of(new, old.seal(STATE, 0)) == "checkpoint_unknown_key"


def test_without_keys_each_process_has_its_own() -> None:
    one, other = CheckpointSeal(), CheckpointSeal()
    token = one.seal(STATE, 0)
    assert one.open(token, 0) == STATE
    assert code_of(other, token) == "checkpoint_unknown_key"


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        CheckpointSeal([KEY, b"k" * 31])


def test_it_expires() -> None:
    seal = CheckpointSeal([KEY], ttl_s=60)
    token = seal.seal(STATE, now_s=1000)
    assert seal.open(token, now_s=1059) == STATE
    assert code_of(seal, token, now_s=1060) == "checkpoint_expired"


def test_no_character_can_be_altered() -> None:
    seal = CheckpointSeal([KEY])
    token = seal.seal(STATE, 0)
    for place, character in enumerate(token):
        altered = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        assert code_of(seal, altered) in {
            "checkpoint_forged",
            "checkpoint_unknown_key",
            "checkpoint_other_version",
        }
        assert code_of(seal, token[:place]) == "checkpoint_forged"
    assert code_of(seal, token + "A") == "checkpoint_forged"


@pytest.mark.parametrize("token", ["", "A", "é" * 40, "A" * 27, "=" * 40, "A+/A" * 20, "\0" * 50])
def test_what_is_no_token(token: str) -> None:
    assert code_of(CheckpointSeal([KEY]), token) in {
        "checkpoint_forged",
        "checkpoint_other_version",
    }


def test_a_token_that_is_far_too_long_is_not_looked_at() -> None:
    began_s = time.perf_counter()
    assert code_of(CheckpointSeal([KEY]), "A" * (MAX_TOKEN_CHARS + 1)) == "checkpoint_forged"
    assert time.perf_counter() - began_s < 1


def test_a_token_of_another_version_says_so() -> None:
    seal = CheckpointSeal([KEY])
    data = base64.urlsafe_b64decode(seal.seal(STATE, 0) + "==")
    altered = base64.urlsafe_b64encode(bytes([data[0] + 1]) + data[1:]).decode().rstrip("=")
    assert code_of(seal, altered) == "checkpoint_other_version"
