import base64
import json
import time

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from ser_core.errors import BadParameter
from service.webhooks import Signer

OLD, NEW = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
BODY = json.dumps({"type": "job.succeeded", "mood": "zufrieden: äöü"}, ensure_ascii=False).encode()


def test_the_schemes_own_example() -> None:
    """From the library's documentation and the specification's test vectors."""
    signer = Signer(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    headers = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1614265330.7)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_while_secrets_change_a_receiver_may_have_either(secret: str) -> None:
    headers = Signer([OLD, NEW]).headers("m1", BODY, time.time())
    assert Webhook(secret).verify(BODY, headers)["type"] == "job.succeeded"


def test_a_changed_body_id_or_secret_is_noticed() -> None:
    headers = Signer([OLD]).headers("m1", BODY, time.time())
    for verify in (
        lambda: Webhook(OLD).verify(BODY + b" ", headers),
        lambda: Webhook(OLD).verify(BODY, {**headers, "webhook-id": "m2"}),
        lambda: Webhook(NEW).verify(BODY, headers),
    ):
        with pytest.raises(WebhookVerificationError):
            verify()


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "secret", "whsec_!!!", "whsec_" + base64.b64encode(bytes(23)).decode(),
     "whsec_" + base64.b64encode(bytes(65)).decode(), base64.b64encode(bytes(32)).decode()],
)  # fmt: skip
def test_a_secret_of_another_form_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(BadParameter) as caught:
        Signer([secret])
    assert "whsec_" in str(caught.value)
    assert "openssl" in caught.value.remedy
    assert len(secret) < 7 or secret not in caught.value.detail


def test_nothing_is_sent_unsigned() -> None:
    with pytest.raises(ValueError, match="unsigned"):
        Signer([])
