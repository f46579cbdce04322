"""The fakes that ship: each port in memory or in one folder, held to the same contract tests as AWS."""
