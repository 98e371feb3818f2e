"""This node: disks, links, mounts, processes, locks, atomic files."""
