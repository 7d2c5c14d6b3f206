import pytest

from ser_core.errors import BadParameter
from service.settings import PREFIX, Settings


def test_each_setting_is_described_and_read_from_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLRF_PORT", "9001")
    monkeypatch.setenv("GLRF_MAX_BATCH", "8")
    settings = Settings.from_environment()
    assert (settings.port, settings.max_batch) == (9001, 8)
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLRF_PORT", "9001")
    assert Settings.from_environment(port=9002).port == 9002


def test_it_listens_on_loopback_by_default() -> None:
    assert Settings.from_environment().host == "127.0.0.1"


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "http"), ("MAX_FILES", "0"), ("DEVICE", "tpu"), ("PORT", "70000")]
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(BadParameter, match=f"GLRF_{name}=.{value}.") as caught:
        Settings.from_environment()
    assert "GLRF_" in caught.value.remedy


@pytest.mark.parametrize("name", ["SHUTDOWN_S", "MAX_FILE_S", "IDLE_TIMEOUT_S"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_no_time_is_without_end(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(BadParameter, match=rf"GLRF_{name}.*finite number"):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("name", "value"), [("JOBS_KEEP_DAYS", "1000000"), ("MAX_SESSION_S", "1e12")]
)
def test_no_date_is_beyond_the_calendar(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(BadParameter, match=rf"GLRF_{name}.*less than or equal"):
        Settings.from_environment()


def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLRF_MAX_FILE", "3")
    with pytest.raises(BadParameter, match="GLRF_MAX_FILE is not a setting") as caught:
        Settings.from_environment()
    assert "GLRF_MAX_FILES" in caught.value.remedy


def test_webhooks_need_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.from_environment().webhook_sender() is None
    monkeypatch.setenv("GLRF_WEBHOOK_SECRETS", "whsec_c2hvcnQ=")
    with pytest.raises(BadParameter) as caught:
        Settings.from_environment()
    assert "GLRF_WEBHOOK_SECRETS" in str(caught.value)
    assert "c2hvcnQ" not in caught.value.detail
    monkeypatch.setenv("GLRF_WEBHOOK_SECRETS", f"whsec_{'A' * 43}=,whsec_{'B' * 43}=")
    monkeypatch.setenv("GLRF_WEBHOOK_ALLOWED_HOSTS", "hooks.internal, 10.0.0.1:80")
    sender = Settings.from_environment().webhook_sender()
    assert sender is not None
    assert sender.targets.check("http://10.0.0.1/").host == "10.0.0.1"


@pytest.mark.parametrize("waits", ["soon", "5,x", "-1", "5;6"])
def test_waits_between_attempts_are_numbers(monkeypatch: pytest.MonkeyPatch, waits: str) -> None:
    monkeypatch.setenv("GLRF_WEBHOOK_RETRY_S", waits)
    with pytest.raises(BadParameter, match="GLRF_WEBHOOK_RETRY_S"):
        Settings.from_environment()


@pytest.mark.parametrize("host", ["http://example.com", "example.com/", "a,user@example.com"])
def test_a_host_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("GLRF_WEBHOOK_ALLOWED_HOSTS", host)
    with pytest.raises(BadParameter, match="leave scheme and path out"):
        Settings.from_environment()
    monkeypatch.setenv("GLRF_WEBHOOK_ALLOWED_HOSTS", "example.com, 127.0.0.1:9000,")
    assert Settings.from_environment().webhook_allowed_hosts


def test_a_log_level_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLRF_LOG_LEVEL", "INFO")
    assert Settings.from_environment().log_level == "info"


@pytest.mark.parametrize("tokens", ["", " ", "token,", ",token", "token, ,other"])
def test_a_token_that_anybody_could_sign_with_is_refused(
    monkeypatch: pytest.MonkeyPatch, tokens: str
) -> None:
    monkeypatch.setenv("GLRF_TWILIO_AUTH_TOKEN", tokens)
    with pytest.raises(BadParameter, match=r"GLRF_TWILIO_AUTH_TOKEN: .*empty"):
        Settings.from_environment()


def test_white_space_around_a_listed_secret_is_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = "o" * 32, "n" * 32
    monkeypatch.setenv("GLRF_CHECKPOINT_KEYS", f"{old}, {new}")
    monkeypatch.setenv("GLRF_TWILIO_AUTH_TOKEN", " one ,two\n")
    settings = Settings.from_environment()
    assert settings.checkpoint_key_bytes() == (old.encode(), new.encode())
    assert settings.twilio_token_bytes() == (b"one", b"two")
