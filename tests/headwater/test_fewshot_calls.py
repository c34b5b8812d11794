"""The core of few-shot calls: what is sent."""

from headwater import fewshot_calls as calls


def test_choices_that_are_left_out_are_left_out() -> None:
    assert not calls.settings({}).HasField("false_alarm_rate")
    assert calls.settings({"false_alarm_rate": 0.0}).HasField("false_alarm_rate")
    assert not calls.options({}).HasField("neighbours")
    assert calls.options({"neighbours": 0}).HasField("neighbours")
