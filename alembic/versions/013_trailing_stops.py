"""Trailing stops: the Position Manager remembers how high a position stood and where its stop follows.

Columns that are there already stay as they are. What this revision added it marks with a comment in the
database; downgrade drops what carries the mark, and nothing else.
"""

from alembic import op

revision = "013"
down_revision = "012"
branch_labels = None
depends_on = None

UPGRADE = """
DO $migration$
DECLARE
    lock_timeout_before CONSTANT text := current_setting('lock_timeout');
    objections text;
    additions text;
    added_columns text[];
    added_column text;
BEGIN
    -- After a failed step, psql goes on with the next one unless told otherwise.
    IF NOT EXISTS (SELECT FROM public.alembic_version WHERE version_num = '012') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'DF001',
            MESSAGE = 'the database is not at revision 012, trailing stops are not added',
            HINT = 'See where it is with: alembic current';
    END IF;

    -- 1. What is missing, and what is there with another type.
    SELECT
        string_agg(
            wanted.column_name || ' is ' || format_type(standing.atttypid, standing.atttypmod)
                || ', not ' || wanted.column_type,
            '; ' ORDER BY wanted.column_name
        ) FILTER (WHERE format_type(standing.atttypid, standing.atttypmod) <> wanted.column_type),
        string_agg(
            'ADD COLUMN ' || wanted.column_name || ' ' || wanted.column_type, ', ' ORDER BY wanted.column_name
        ) FILTER (WHERE standing.attname IS NULL),
        array_agg(wanted.column_name ORDER BY wanted.column_name) FILTER (WHERE standing.attname IS NULL)
    INTO objections, additions, added_columns
    FROM
    (VALUES
        ('peak_price',             'numeric(12,4)'),
        ('trailing_stop_price',    'numeric(12,4)'),
        ('entry_underlying_price', 'numeric(12,4)'),
        ('original_quantity',      'integer')
    ) AS wanted (column_name, column_type)
    LEFT JOIN pg_catalog.pg_attribute AS standing
        ON standing.attrelid = 'public.active_positions'::regclass
        AND standing.attname = wanted.column_name
        AND NOT standing.attisdropped;

    IF objections IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'DF004',
            MESSAGE = 'public.active_positions cannot take trailing stops: ' || objections,
            HINT = 'Bring these columns to the types of revision 013, then run alembic upgrade again.';
    END IF;
    IF added_columns IS NULL THEN
        RETURN;
    END IF;

    -- 2. While ALTER TABLE waits, every other query on the table waits behind it: not for long, unless
    -- somebody chose how long.
    IF lock_timeout_before = '0' THEN
        PERFORM set_config('lock_timeout', '5s', true);
    END IF;
    EXECUTE 'ALTER TABLE public.active_positions ' || additions;
    FOREACH added_column IN ARRAY added_columns LOOP
        EXECUTE 'COMMENT ON COLUMN public.active_positions.' || added_column
            || ' IS ''added by revision 013''';
    END LOOP;
    -- The next migration may share this transaction.
    PERFORM set_config('lock_timeout', lock_timeout_before, true);
END
$migration$
"""


# What these columns hold is derived: the Position Manager works it out anew from prices, within a minute.
DOWNGRADE = """
DO $migration$
DECLARE
    lock_timeout_before CONSTANT text := current_setting('lock_timeout');
    our_columns text[];
BEGIN
    -- After a failed step, psql goes on with the next one unless told otherwise.
    IF NOT EXISTS (SELECT FROM public.alembic_version WHERE version_num = '013') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'DF001',
            MESSAGE = 'the database is not at revision 013, nothing is undone',
            HINT = 'See where it is with: alembic current';
    END IF;

    -- 1. Only what carries our mark goes. Where somebody wrote another comment since, it is theirs and stays.
    SELECT array_agg(quote_ident(a.attname) ORDER BY a.attname) INTO our_columns
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = to_regclass('public.active_positions')
      AND NOT a.attisdropped
      AND col_description(a.attrelid, a.attnum) = 'added by revision 013';
    IF our_columns IS NULL THEN
        RETURN;
    END IF;

    -- 2. While ALTER TABLE waits, every other query on the table waits behind it: not for long, unless
    -- somebody chose how long. Without CASCADE: what others built on a column stands in the way and is named.
    IF lock_timeout_before = '0' THEN
        PERFORM set_config('lock_timeout', '5s', true);
    END IF;
    EXECUTE 'ALTER TABLE public.active_positions DROP COLUMN '
        || array_to_string(our_columns, ', DROP COLUMN ');
    PERFORM set_config('lock_timeout', lock_timeout_before, true);
END
$migration$
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
