"""Names of allowlists: one form for each, and nothing that lets more through than it says."""

import pytest

from executor.domains import domain_pattern


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("example.com", "example.com"),
        ("Example.COM", "example.com"),
        (".example.com", ".example.com"),
        ("*.example.com", ".example.com"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("a-b.c1.example", "a-b.c1.example"),
    ],
)
def test_a_name_is_kept_in_one_form(text: str, kept: str) -> None:
    """Case and the two ways to write sub-domains make no difference."""
    assert domain_pattern(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "*", "com", ".com", "*.com", "*example.com", "a.*.com", "..example.com", "example.com.", "a b.com",
        "10.0.0.1", "1.2.3.4", "[::1]", "::1", "example.com:443", "https://example.com", "example.com/path", "-a.com",
        "a-.com", "a_b.com", "münchen.de", "a.com\n", f"{'a' * 64}.com", ".".join(["abc"] * 70), "0x7f.1",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    """Addresses, top-level domains, wildcards in the middle and what DNS does not know are refused with advice."""
    with pytest.raises(ValueError, match=r"write example\.com"):
        domain_pattern(text)
