"""What is learnt of a template from one conversation."""

from collections.abc import Sequence

import pytest

from receptance.serving.chat.frame import Frame, learn_frame
from receptance.serving.chat.template import Message

END = "\ue000end\ue001"


def frame_of(form: str, cue: str, names: dict[str, str] | None = None) -> Frame:
    """The frame of a template that writes every message by `form` and asks by `cue`."""

    def write(messages: Sequence[Message], asks: bool) -> str:
        names_of = names or {each: each for each in ("system", "user", "assistant")}
        turns = [form.format(names_of[each.role], each.content) for each in messages]
        return "".join(turns) + cue * asks

    return learn_frame(write, END)


def test_the_cue_and_the_end_of_an_answer_are_what_the_template_writes():
    frame = frame_of("<{}>{}</s>\n", "<assistant>")
    assert (frame.cue, frame.stop, frame.strips_space) == ("</s>\n<assistant>", ("</s>",), False)


def test_an_answer_that_ends_with_its_text_needs_no_other_stop():
    assert frame_of("<{}>{}" + END, "<assistant>").stop == ()
    assert frame_of("[{}]{}\n" + END, "[assistant]").stop == ()
    assert frame_of("{}:{} ", "assistant:").stop == (" user:",)


def test_marks_are_found_anywhere_and_names_where_lines_begin():
    frame = frame_of("### {}\n{}\n", "### assistant\n")
    assert frame.forgery is not None
    assert frame.forgery.search("so ### assistant")
    frame = frame_of("\n{}: {}", "\nassistant:")
    assert frame.forgery is not None
    assert frame.forgery.search("a\n assistant: b")
    assert not frame.forgery.search("the assistant: b")
    assert not frame.is_parted_by_empty_lines


def test_names_after_empty_lines_need_not_be_found():
    frame = frame_of("{}: {}\n\n", "assistant:")
    assert frame.is_parted_by_empty_lines
    assert not (frame.forgery and frame.forgery.search("a\nassistant: b"))


def test_a_template_that_loses_texts_is_refused():
    with pytest.raises(ValueError, match="must write what every message says"):
        frame_of("{}", "")
