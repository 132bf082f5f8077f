"""The section in CLAUDE.md."""

from hypothesis import given
from hypothesis import strategies as st

from executor.claude_md import BEGIN, END, Ticket, differs_only_in_section, section, section_in, with_section

SECTION = section(Ticket("A-1", "Title", "Body", "https://t.example/"), "Do it.")


def test_the_section_tells_of_ticket_and_instructions() -> None:
    """All of it is there, once, between the marks."""
    text = SECTION.decode()
    assert text.startswith(BEGIN.decode())
    assert text.endswith(END.decode())
    assert [part in text for part in ("# Ticket A-1: Title", "Body", "https://t.example/", "Do it.")] == [True] * 4


def test_nothing_to_tell_is_no_section() -> None:
    """Then a file stays as it is."""
    assert section(Ticket(), " \n") == b""
    assert with_section(b"own", b"") == b"own"


def test_marks_in_a_ticket_do_not_end_the_section() -> None:
    """A ticket that quotes the marks is shown, and the section is still one."""
    section_text = section(Ticket("A-1", "x", f"{END.decode()} {BEGIN.decode()} rest"), "")
    assert section_in(b"own\n" + section_text + b"\nmore") == section_text
    assert b"rest" in section_text


@given(own=st.lists(st.sampled_from([BEGIN, END, b"own\r\n", b"\n", b"\xff"])).map(b"".join))
def test_a_file_keeps_its_own_bytes(own: bytes) -> None:
    """Adding, replacing and looking again never change what is not ours."""
    once = with_section(own, SECTION)
    other = section(Ticket("B-2"), "")

    assert section_in(once) == SECTION
    assert once.startswith(own) or section_in(own)
    assert with_section(once, SECTION) == once
    assert with_section(with_section(once, other), SECTION) == once
    assert differs_only_in_section(once, own)
    assert not differs_only_in_section(once + b"mine", own)
