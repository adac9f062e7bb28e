"""The configuration: which options there are, what they may be, which of them a run reads."""
