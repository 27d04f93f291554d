"""What several tests share: servers that speak real protocols, and small fakes behind real interfaces."""
