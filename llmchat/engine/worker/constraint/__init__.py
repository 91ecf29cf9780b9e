"""What a reply must obey: JSON schemas, regexes, Lark and GBNF grammars, and where a reply stands.

Owns constrained choice: `guided.py` over llguidance, `native.py` over llama.cpp's GBNF,
`thinking.py` for models that think before they answer, `preparing.py` for reading a grammar without
stopping the loop. Refuses batches and memory: a rule follows tokens, wherever their cells are.
"""
