"""What keeps the console from starting; the message is a sentence for the person who started it."""


class ConsoleError(Exception):
    """The console cannot start; the message says what to do."""
