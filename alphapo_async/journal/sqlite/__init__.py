"""The journal in a file: what it acknowledged survives the death of the process and of the machine."""
