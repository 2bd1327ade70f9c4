"""Shapes."""

from dataclasses import dataclass


@dataclass
class Box:
    width: int
    height: int

    def area(self):
        return self.width * self.height
