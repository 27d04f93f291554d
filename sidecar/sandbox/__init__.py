"""Where the programs of an attempt run: what they see, what they may write, whom they reach.

The parts: ``policy`` decides what a place holds; ``bubblewrap``, ``landlock`` and ``seccomp`` say it in the words of
the kernel; ``launcher`` is the program that gives up the last rights; ``cell`` puts them together for one attempt.
"""
