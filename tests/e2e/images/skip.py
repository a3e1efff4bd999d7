class Skip(Exception):
    """What the machine lacks."""
