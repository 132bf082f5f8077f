"""Containerfiles: what is taken, what is refused, and that what was checked is what the engine gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.containerfile import Containerfile, read
from protos.errors import InvalidArgument

STAMPS = {"b": "1", "a": 'x"$\\'}


def text(source: str) -> list[str]:
    """What the engine gets, line by line, without the labels at its end."""
    containerfile = Containerfile(source, {})
    ids = {name: f"id-{name}" for name in containerfile.images}
    return containerfile.text(ids, {}, {}).split("\n")[:-2]


def test_instructions_are_written_one_a_line() -> None:
    """Comments, continuations and Windows line ends are taken out."""
    source = "# syntax=x\r\nfrom debian\r\n\r\nrun one && \\\r\n  # remark\r\n\r\n  two \\\n three\n"
    assert text(source) == ["FROM id-debian", "RUN one &&   two  three"]


def test_images_are_pinned_and_stages_are_not() -> None:
    """Arguments before FROM are filled in; scratch, stages and numbers stay; a copied image is pinned too."""
    source = (
        'ARG A=debian B="${A}:${C:-12}" C\nFROM ${B} AS One\nFROM scratch\nCOPY --chown=1:2 --from=one /a /b\n'
        "COPY --from=0 {image} /b\nCOPY --from=busybox /bin/sh /c\nFROM one"
    )
    containerfile = Containerfile(source, {"A": "ubuntu"})
    assert containerfile.images == ("ubuntu:12", "busybox")
    pins = dict.fromkeys(containerfile.images, "pinned")
    assert containerfile.text(pins, {"s": "t"}, {"l": "m"}).split("\n") == [
        'ARG A=debian B="${A}:${C:-12}" C',
        "FROM pinned AS One",
        "FROM scratch",
        'LABEL "s"="t"',
        "COPY --chown=1:2 --from=one /a /b",
        "COPY --from=0 {image} /b",
        "COPY --from=pinned /bin/sh /c",
        "FROM one",
        'LABEL "l"="m" "s"="t"',
        "",
    ]


def test_stamps_have_the_last_word() -> None:
    """Neither a LABEL of the file nor one asked for takes their place, and quotes in values stay values."""
    written = Containerfile("FROM x\nLABEL a=mine\n", {}).text({"x": "x"}, STAMPS, {"a": "theirs", "c": "d"})
    assert written.split("\n")[-2] == r'LABEL "a"="x\"\$\\" "b"="1" "c"="d"'


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "no FROM"),
        ("RUN x", "begins with FROM"),
        ("FROM x\nNOPE y", "line 2, NOPE"),
        ("FROM x\nRUN --mount=type=bind,source=/,from=y ls", "not offered"),
        ("FROM x\nRUN \\\n--network=host ls", "not offered"),
        ("FROM x\nRUN cat <<EOF\nFROM dir:/etc\nEOF", "here-documents"),
        ("FROM x\nCOPY <<EOF /x\nEOF", "here-documents"),
        ("FROM x\nONBUILD ADD http://x /y", "other builds"),
        ("FROM x\nADD http://x /y", "no network"),
        ("FROM x\nADD --chmod=1 HTTPS://x /y", "no network"),
        ('FROM x\nADD http":"//x /y', "no network"),
        ("FROM x\nADD ${WHERE} /y", "no network"),
        ('FROM x\nADD ["http:\\u002f/x", "/y"]', "no network"),
        ("FROM x\nADD [1] /y", "JSON"),
        ("FROM x\nADD git@host:repo /y", "no network"),
        ("FROM x\nADD github.com/a/b /y", "no network"),
        ("FROM x\nADD --checksum=1 a /y", "not offered"),
        ("FROM x\nCOPY --from=dir:/etc /a /b", "neither"),
        ("FROM x\nCOPY --from=$Y /a /b", "neither"),
        ("FROM x\nCOPY --from=0 /a /b", "neither"),
        ("FROM dir:/etc", "no name"),
        ("ARG X=docker-archive:/etc/x\nFROM $X", "no name"),
        ("FROM $UNKNOWN", "no name"),
        ("FROM x AS", "write FROM"),
        ("FROM --squash x", "not offered"),
        ("# escape=`\nFROM x", "escape"),
        ("FROM x\nRUN a\x01b", "control"),
        ("FROM x\nRUN a \\\u00a0", "backslash"),
        ("FROM x\n" + "RUN y\n" * 1001, "1000"),
    ],
)
def test_what_leads_out_of_the_build_is_refused(source: str, says: str) -> None:
    """Each with a sentence that says where and why."""
    with pytest.raises(InvalidArgument, match=says):
        Containerfile(source, {})


def test_with_a_network_addresses_may_be_added() -> None:
    """Under a floor of open there is nothing that ADD could reach and RUN could not."""
    assert "ADD http://x /y" in Containerfile("FROM x\nADD http://x /y", {}, has_network=True).text({"x": "x"}, {}, {})


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["RUN", "FROM", "COPY", "ADD", "ENV", " \trun", "#", "", "ONBUILD"]),
            st.text(alphabet="ab \\\"'$<-=\n\t\r/:\u00a0\u2028", max_size=20),
        ),
        max_size=6,
    )
)
def test_the_engine_reads_what_was_checked(lines: list[tuple[str, str]]) -> None:
    """Read again, our own text is the same instructions: no line of it runs into the next."""
    source = "FROM x\n" + "\n".join(f"{keyword} {rest}" for keyword, rest in lines)
    try:
        containerfile = Containerfile(source, {})
    except InvalidArgument:
        return
    written = containerfile.text(dict.fromkeys(containerfile.images, "pinned"), {"k": "v"}, {})
    again = list(read(written))
    assert "\n".join(f"{found.keyword} {found.rest}" for found in again) + "\n" == written
    assert len(again) == len(list(read(source))) + 1 + source.lower().count("from scratch")
