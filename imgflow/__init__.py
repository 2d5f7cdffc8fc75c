"""imgflow: a rescue line for catalog photos on Dagster."""

__version__ = "0.1.0"
