"""What a process that runs a user's code may still do: files by Landlock, calls by seccomp, amounts by rlimits."""
