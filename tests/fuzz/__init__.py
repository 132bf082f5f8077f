"""Every decoder of what strangers send, with strategies that make such input: for Hypothesis and for Atheris."""
