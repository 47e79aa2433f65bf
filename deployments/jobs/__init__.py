"""The ledger: jobs that outlive the ingress replica that took them, and who runs how much."""
