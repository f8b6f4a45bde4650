"""The chain of seals beside a ledger: each finished run is hashed after its commit, and proven later."""
