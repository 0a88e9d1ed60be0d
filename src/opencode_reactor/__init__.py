"""opencode-reactor: an always-on control plane for OpenCode servers."""
