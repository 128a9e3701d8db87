"""Several processes of ours on real infrastructure that fails; the sandbox's ledger judges what they reported."""
