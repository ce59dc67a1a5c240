"""The one exception that means "the user can fix this": commands print it as one line and exit with code 2."""

from collections import Counter


class UserError(ValueError):
    """A mistake in what the user gave us. The message is one line: field, value, accepted range, what to do."""


def require(condition: bool, field: str, value: object, accepted: str) -> None:
    """Raise `UserError` naming `field`, its `value` and what is `accepted`, unless `condition` holds."""
    if not condition:
        raise UserError(f"{field} = {value!r}: must be {accepted}")


def cannot_read(path: object, error: OSError) -> UserError:
    """The `UserError` for a file or folder that the system does not let us read."""
    return UserError(f"cannot read {path}: {error.strerror or error}; check its permissions")


def require_seeds(seeds: tuple[int, ...]) -> None:
    """Raise `UserError` unless the seeds of a population are different integers from 0 to 2³¹ − 1."""
    require(len(seeds) > 0, "seeds", seeds, "one or more integers")
    for seed in seeds:
        require(0 <= seed < 2**31, "seeds", seed, "integers between 0 and 2147483647")
    repeated = sorted(seed for seed, times in Counter(seeds).items() if times > 1)
    if repeated:
        given = " ".join(map(str, seeds))
        raise UserError(f"seeds = {given}: {repeated[0]} stands there more than once; each must be different")
