"""A long fuzz of all that reads what others made: pictures and caption formats. `python -m tests.fuzz --help`.

`byte_mutations` damages any bytes, `picture_seeds` and `picture_mutations` make and damage pictures by their structure,
`manifest_cases` writes caption files and manifests that are nearly right, `targets` runs what is tested and judges it,
`worker` runs case after case in a process of its own, and `__main__` starts, watches and reports.

A case follows from (seed, target, number), so that a run goes on where the last one ended and a case can be made again
after the process that ran it has died.
"""
