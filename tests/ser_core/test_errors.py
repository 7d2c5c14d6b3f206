from ser_core import errors
from ser_core.errors import BadAudio, InputError, SerError


def _classes() -> list[type[SerError]]:
    found = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    return [cls for cls in found if issubclass(cls, SerError)]


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in _classes()]
    assert len(set(codes)) == len(codes)
    assert all(code == code.lower() and code.isidentifier() for code in codes)


def test_the_tree_atop_the_module_names_every_class() -> None:
    assert errors.__doc__ is not None
    for cls in _classes():
        assert cls.__name__ in errors.__doc__


def test_detail_tells_cause_and_remedy() -> None:
    error = BadAudio("the body is empty", remedy="send a file", code="empty_audio")
    assert isinstance(error, InputError)
    assert (str(error), error.code) == ("the body is empty", "empty_audio")
    assert error.detail == "the body is empty; send a file"


def test_detail_without_remedy_is_the_cause() -> None:
    error = BadAudio("broken")
    assert error.detail == "broken"
    assert error.code == BadAudio.code == "bad_audio"


def test_a_code_of_one_error_leaves_its_class_alone() -> None:
    BadAudio("x", code="truncated_audio")
    assert BadAudio("y").code == "bad_audio"
