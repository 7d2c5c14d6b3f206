"""What the service costs, alone and beside others. Results: RESULTS.md."""
