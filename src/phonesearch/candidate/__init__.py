"""One architecture, from its numbers alone: no torch, no files but `config.json`, no device."""
