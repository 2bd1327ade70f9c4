"""A package for the instances to compile."""

from .names import title
from .shapes import Box


def greet(name):
    return f"hello {title(name)}, {Box(3, 4).area()}"
