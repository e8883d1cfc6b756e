"""One module per paper of others: what was read and where, how its symbols become ours, and its statements on trial."""

NAMES = (
    "oswald_2022",
    "zhang_2023",
    "ahn_2023",
    "lu_2024",
    "zhang_2025",
    "bordelon_2025",
    "lee_2026",
    "javanmard_2026",
)
"""The modules, in the order of the report."""
