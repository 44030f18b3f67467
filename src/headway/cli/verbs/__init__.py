"""The verbs of `headway`, a function each: options in, one call into the verb's own module."""
