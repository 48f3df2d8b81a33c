"""Which strings UTF-8 can encode."""


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can encode a text: not if it has surrogates, to which Python decodes invalid bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
