"""The command line: verbs only. Nothing else in headway imports this package."""
