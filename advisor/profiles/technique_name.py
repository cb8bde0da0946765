"""Names of techniques in requests: a name, and options after a colon, as `kv-window:window=128`."""


def technique_in(word: str) -> str:
    """The name of a technique without its options.

    >>> technique_in("kv-window:window=128")
    'kv-window'
    """
    return word.partition(":")[0]
