"""The bug bench: mistakes that other clients and early designs made, planted one at a time in a copy of the package.

`python -m tests.proof.simulation.bugs` plants each, lets the simulator or the search of `tests/proof/test_row_model.py` look for it, and
prints how soon it was found.
"""
