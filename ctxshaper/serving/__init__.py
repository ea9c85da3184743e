"""The service: HTTP contracts that people's tools already speak, and Ray."""
