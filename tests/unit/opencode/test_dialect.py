import pytest

from opencode_reactor.errors import UnsupportedVersion
from opencode_reactor.opencode.dialect import Dialect, ServerVersion, choose_dialect


def test_versions_compare_by_number_and_not_by_text() -> None:
    assert ServerVersion.parse("1.1.65") < ServerVersion.parse("1.18.33")
    assert ServerVersion.parse("v1.18.33") == ServerVersion.parse("1.18.33-beta.2")


def test_a_version_is_shown_as_the_server_wrote_it() -> None:
    assert str(ServerVersion.parse(" 1.18.33-beta.2 ")) == "1.18.33-beta.2"
    assert str(ServerVersion(1, 2, 3)) == "1.2.3"


@pytest.mark.parametrize("text", ["1.1.57", "1.0.185", "0.0.0-dev-202611", "2.0.0", "2.0.3", "9.9.9"])
def test_a_version_outside_the_protocol_is_refused_by_name(text: str) -> None:
    with pytest.raises(UnsupportedVersion) as refused:
        choose_dialect(text)
    assert text in refused.value.message
    assert "1.1.65" in refused.value.remedy


@pytest.mark.parametrize(
    "text", ["", "latest", "1.18", "1.18.33.4", "\u0661.2.3", "1.18.33x", "1" * 5000, "1.2." + "9" * 99]
)
def test_what_is_no_version_is_refused_and_shown_short(text: str) -> None:
    with pytest.raises(UnsupportedVersion) as refused:
        choose_dialect(text)
    assert len(refused.value.message) < 120


@pytest.mark.parametrize("text", ["1.1.58", "1.1.65", "1.2.1", "1.18.33", "1.99.0"])
def test_a_supported_version_has_a_dialect_that_names_it(text: str) -> None:
    assert str(choose_dialect(text).version) == text


def switches(dialect: Dialect) -> dict[str, object]:
    names = (
        "event_ids directory_stream heartbeat settle deltas metadata question_rule sorted_ids "
        "capped_retries follows_session unknown_is_404"
    )
    return {name: getattr(dialect, name) for name in names.split()}


def test_the_oldest_dialect_promises_nothing() -> None:
    assert switches(choose_dialect("1.1.65")) == {
        "event_ids": False,
        "directory_stream": False,
        "heartbeat": 30.0,
        "settle": 0.0,
        "deltas": False,
        "metadata": False,
        "question_rule": False,
        "sorted_ids": True,
        "capped_retries": False,
        "follows_session": False,
        "unknown_is_404": False,
    }


def test_the_newest_dialect_has_everything() -> None:
    assert switches(choose_dialect("1.18.33")) == {
        "event_ids": True,
        "directory_stream": True,
        "heartbeat": 10.0,
        "settle": 0.25,
        "deltas": True,
        "metadata": True,
        "question_rule": True,
        "sorted_ids": False,
        "capped_retries": True,
        "follows_session": True,
        "unknown_is_404": True,
    }


@pytest.mark.parametrize(
    ("switch", "before", "since"),
    [
        ("deltas", "1.1.65", "1.2.1"),
        ("follows_session", "1.1.65", "1.2.1"),
        ("question_rule", "1.2.27", "1.3.2"),
        ("event_ids", "1.3.2", "1.14.34"),
        ("directory_stream", "1.3.2", "1.14.34"),
        ("metadata", "1.15.4", "1.15.13"),
        ("unknown_is_404", "1.14.34", "1.15.13"),
        ("capped_retries", "1.18.16", "1.18.18"),
    ],
)
def test_a_switch_turns_at_its_border(switch: str, before: str, since: str) -> None:
    assert not getattr(choose_dialect(before), switch)
    assert getattr(choose_dialect(since), switch)


def test_the_build_with_the_broken_directory_stream_is_not_listened_to_twice() -> None:
    assert choose_dialect("1.14.41").directory_stream
    assert not choose_dialect("1.15.0").directory_stream
    assert choose_dialect("1.15.3").directory_stream


def test_silence_is_two_and_a_half_heartbeats() -> None:
    assert choose_dialect("1.2.1").silence == 75.0
    assert choose_dialect("1.2.27").silence == 25.0
