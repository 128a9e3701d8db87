"""The specification of one withdrawal in TLA+, its planted mistakes, and traces of the simulator that it accepts."""
