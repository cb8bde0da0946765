"""A technique as people type it and requests hold it: a name, and options after a colon, as `kv-window:window=128`."""


def technique_in(word: str) -> str:
    """The name in such a word.

    >>> technique_in("kv-window:window=128")
    'kv-window'
    """
    return word.partition(":")[0]
