"""Which layers run where: cases in numbers, exact methods, an independent verifier. Pure.

Read in this order: ``case`` (what a solver sees), ``solution``, ``verify``, the methods, ``choose``.
"""
