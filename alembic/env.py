"""What Alembic runs for every command of the ops-pipeline."""

from logging.config import fileConfig

from alembic import context
from datafixes.environment import run_migrations

if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)

# The version table is named with its schema: another search_path must not find, or make, another one.
run_migrations(context, version_table_schema="public")
