"""Faults at every system call of a save, and power cuts at any moment. `python -m tests.faults --help`.

`strace` lets one system call of a process fail, or kills the process there; `scenarios` are the saves that are walked;
`walk` goes through all their system calls, one after the other, and judges what each fault leaves behind. `power_cut`
copies a disk in the middle of saves and looks at the copy.
"""
