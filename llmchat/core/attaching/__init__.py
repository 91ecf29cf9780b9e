"""Files as parts of a message: which ones are meant, what their text is, and what is refused.

What a file claims to be is never believed: its first bytes decide, its size is bounded before it is
read, and documents are taken apart in a process of their own with bounded memory and time.
"""
