"""Legal values, for messages that name them."""


def divisors(number: int, limit: int = 64) -> list[int]:
    """Divisors of a number up to a limit, for messages that name the legal values."""
    return [candidate for candidate in range(1, min(number, limit) + 1) if number % candidate == 0]
