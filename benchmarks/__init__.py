"""What this project claims, measured: `python -m benchmarks` lists the benchmarks, `... NAME` runs one."""
