"""The one exception that means "the user can fix this": commands print it as one line and exit with code 2."""


class UserError(ValueError):
    """A mistake in what the user gave us. The message is one line: field, value, accepted range, what to do."""


def require(condition: bool, field: str, value: object, accepted: str) -> None:
    """Raise `UserError` naming `field`, its `value` and what is `accepted`, unless `condition` holds."""
    if not condition:
        raise UserError(f"{field} = {value!r}: must be {accepted}")
