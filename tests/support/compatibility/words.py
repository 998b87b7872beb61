"""How limits are worded: with the parameter's name, the limit, and what was given."""

TOO_LONG = (
    "Invalid '{}': string too long. Expected a string with maximum length {}, but got a string "
    "with length {} instead."
)
TOO_MANY = (
    "Invalid '{}': array too long. Expected an array with maximum length {}, but got an array "
    "with length {} instead."
)
TOO_MANY_PROPERTIES = (
    "Invalid '{}': too many properties. Expected an object with at most {} properties, but got an "
    "object with {} properties instead."
)
