"""active_positions as the pipeline has it: created on an empty database, adopted where it stands already.

Other tools made the production table, so this revision takes it as it finds it: columns that are missing are
added, everything else stays. What it made it marks with a comment in the database; downgrade undoes what
carries the mark, and nothing else.

All decisions are made in SQL, so that `alembic upgrade --sql` prints what an online run does.
"""

from alembic import context, op

revision = "012"
down_revision = None
branch_labels = None
depends_on = None

# The columns of the CREATE TABLE below, types as format_type() spells them, for a table that stands already.
# Of a NOT NULL column nobody can say what the rows that are there should hold, so a table without is refused.
# These rows get a value only where it is no claim about them: none becomes open, and none was made just now.
BASELINE = """
    (VALUES
        -- column                  type                          NOT NULL  default              old rows get
        ('id',                     'integer',                     true,    NULL,                NULL),
        ('ticker',                 'character varying(10)',       true,    NULL,                NULL),
        ('instrument_type',        'character varying(20)',       true,    NULL,                NULL),
        ('strategy_type',          'character varying(20)',       true,    NULL,                NULL),
        ('side',                   'character varying(10)',       true,    NULL,                NULL),
        ('quantity',               'numeric(12,4)',               true,    NULL,                NULL),
        ('entry_price',            'numeric(12,4)',               true,    NULL,                NULL),
        ('entry_time',             'timestamp without time zone', true,    NULL,                NULL),
        ('strike_price',           'numeric(12,4)',               false,   NULL,                NULL),
        ('expiration_date',        'date',                        false,   NULL,                NULL),
        ('stop_loss',              'numeric(12,4)',               false,   NULL,                NULL),
        ('take_profit',            'numeric(12,4)',               false,   NULL,                NULL),
        ('max_hold_minutes',       'integer',                     false,   NULL,                NULL),
        ('bracket_order_accepted', 'boolean',                     false,   'false',             'false'),
        ('stop_order_id',          'character varying(100)',      false,   NULL,                NULL),
        ('target_order_id',        'character varying(100)',      false,   NULL,                NULL),
        ('current_price',          'numeric(12,4)',               false,   NULL,                NULL),
        ('current_pnl_dollars',    'numeric(12,4)',               false,   NULL,                NULL),
        ('current_pnl_percent',    'numeric(8,4)',                false,   NULL,                NULL),
        ('last_checked_at',        'timestamp without time zone', false,   NULL,                NULL),
        ('check_count',            'integer',                     false,   '0',                 '0'),
        ('status',                 'character varying(20)',       false,   '''open''',          NULL),
        ('close_reason',           'character varying(50)',       false,   NULL,                NULL),
        ('created_at',             'timestamp without time zone', false,   'CURRENT_TIMESTAMP', NULL),
        ('updated_at',             'timestamp without time zone', false,   'CURRENT_TIMESTAMP', NULL),
        ('closed_at',              'timestamp without time zone', false,   NULL,                NULL),
        ('option_symbol',          'text',                        false,   NULL,                NULL),
        ('account_name',           'character varying(50)',       false,   '''large''',         '''large'''),
        ('exit_price',             'numeric(12,4)',               false,   NULL,                NULL),
        ('entry_features_json',    'jsonb',                       false,   NULL,                NULL)
    ) AS baseline (column_name, column_type, is_required, default_value, value_for_old_rows)
""".strip()

UPGRADE = f"""
DO $migration$
DECLARE
    lock_timeout_before CONSTANT text := current_setting('lock_timeout');
    relation_kind text;
    objections text;
    additions text;
    added_columns text[];
    added_column text;
BEGIN
    -- 1. An empty database: make the table, and remember that it is ours.
    IF to_regclass('public.active_positions') IS NULL THEN
        CREATE TABLE public.active_positions (
            id                     serial        PRIMARY KEY,
            ticker                 varchar(10)   NOT NULL,
            instrument_type        varchar(20)   NOT NULL,  -- STOCK, CALL or PUT
            strategy_type          varchar(20)   NOT NULL,
            side                   varchar(10)   NOT NULL,
            quantity               numeric(12,4) NOT NULL,
            entry_price            numeric(12,4) NOT NULL,
            entry_time             timestamp     NOT NULL,
            strike_price           numeric(12,4),
            expiration_date        date,
            stop_loss              numeric(12,4),
            take_profit            numeric(12,4),
            max_hold_minutes       integer,
            bracket_order_accepted boolean       DEFAULT false,
            stop_order_id          varchar(100),
            target_order_id        varchar(100),
            current_price          numeric(12,4),
            current_pnl_dollars    numeric(12,4),
            current_pnl_percent    numeric(8,4),
            last_checked_at        timestamp,
            check_count            integer       DEFAULT 0,
            status                 varchar(20)   DEFAULT 'open',
            close_reason           varchar(50),
            created_at             timestamp     DEFAULT CURRENT_TIMESTAMP,
            updated_at             timestamp     DEFAULT CURRENT_TIMESTAMP,
            closed_at              timestamp,
            option_symbol          text,
            account_name           varchar(50)   DEFAULT 'large',
            exit_price             numeric(12,4),
            entry_features_json    jsonb
        );
        CREATE INDEX idx_active_positions_status ON public.active_positions (status);
        CREATE INDEX idx_active_positions_ticker ON public.active_positions (ticker);
        CREATE INDEX idx_active_positions_account_name ON public.active_positions (account_name);
        CREATE INDEX idx_active_positions_status_account ON public.active_positions (status, account_name);
        CREATE INDEX idx_active_positions_expiration ON public.active_positions (expiration_date);
        CREATE INDEX idx_active_positions_entry_time ON public.active_positions (entry_time);
        CREATE INDEX idx_active_positions_option_symbol ON public.active_positions (option_symbol);
        COMMENT ON TABLE public.active_positions IS 'created by revision 012';
        RETURN;
    END IF;

    -- 2. Something of that name stands there: adopt it only if it is a table ...
    SELECT c.relkind INTO relation_kind
    FROM pg_catalog.pg_class AS c
    WHERE c.oid = 'public.active_positions'::regclass;

    IF relation_kind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'DF004',
            MESSAGE = 'public.active_positions cannot be adopted: it is not a table but a '
                || CASE relation_kind
                       WHEN 'v' THEN 'view'
                       WHEN 'm' THEN 'materialized view'
                       WHEN 'f' THEN 'foreign table'
                       WHEN 'S' THEN 'sequence'
                       WHEN 'c' THEN 'composite type'
                       ELSE 'relation of kind ' || relation_kind
                   END,
            HINT = 'Run alembic on the database that holds the table, or rename what has its name here.';
    END IF;

    -- ... whose columns, where the baseline has them too, have its types.
    SELECT
        string_agg(
            CASE WHEN standing.attname IS NULL
                THEN baseline.column_name || ' (NOT NULL) is missing'
                ELSE baseline.column_name || ' is ' || format_type(standing.atttypid, standing.atttypmod)
                    || ', not ' || baseline.column_type
            END, '; ' ORDER BY baseline.column_name
        ) FILTER (
            WHERE (standing.attname IS NULL AND baseline.is_required)
               OR format_type(standing.atttypid, standing.atttypmod) <> baseline.column_type
        ),
        string_agg(
            'ADD COLUMN ' || baseline.column_name || ' ' || baseline.column_type
                || coalesce(' DEFAULT ' || baseline.value_for_old_rows, '')
                || coalesce(
                    ', ALTER COLUMN ' || baseline.column_name || ' SET DEFAULT ' || baseline.default_value, ''
                ),
            ', ' ORDER BY baseline.column_name
        ) FILTER (WHERE standing.attname IS NULL),
        array_agg(baseline.column_name ORDER BY baseline.column_name) FILTER (WHERE standing.attname IS NULL)
    INTO objections, additions, added_columns
    FROM
    {BASELINE}
    LEFT JOIN pg_catalog.pg_attribute AS standing
        ON standing.attrelid = 'public.active_positions'::regclass
        AND standing.attname = baseline.column_name
        AND NOT standing.attisdropped;

    IF objections IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'DF004',
            MESSAGE = 'public.active_positions cannot be adopted: ' || objections,
            HINT = 'Bring these columns to the types of the baseline, then run alembic upgrade again.';
    END IF;

    -- 3. Add what is missing. A complete table is not even locked.
    IF added_columns IS NULL THEN
        RETURN;
    END IF;

    -- While ALTER TABLE waits, every other query on the table waits behind it: not for long, unless
    -- somebody chose how long.
    IF lock_timeout_before = '0' THEN
        PERFORM set_config('lock_timeout', '5s', true);
    END IF;
    EXECUTE 'ALTER TABLE public.active_positions ' || additions;
    FOREACH added_column IN ARRAY added_columns LOOP
        EXECUTE 'COMMENT ON COLUMN public.active_positions.' || added_column
            || ' IS ''added by revision 012''';
    END LOOP;
    -- The next migration may share this transaction.
    PERFORM set_config('lock_timeout', lock_timeout_before, true);
END
$migration$
"""


def downgrade_sql(discard: str) -> str:
    """The downgrade; where `discard` is "true", what would be lost does not stand in its way."""
    return f"""
DO $migration$
DECLARE
    discard CONSTANT boolean := {discard};
    lock_timeout_before CONSTANT text := current_setting('lock_timeout');
    row_security_before CONSTANT text := current_setting('row_security');
    positions CONSTANT regclass := to_regclass('public.active_positions');
    table_is_ours boolean;
    our_columns text[];
    our_column record;
    row_count bigint;
    losses text[];
BEGIN
    -- After a failed step, psql goes on with the next one unless told otherwise.
    IF NOT EXISTS (SELECT FROM public.alembic_version WHERE version_num = '012') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'DF001',
            MESSAGE = 'the database is not at revision 012, nothing is undone',
            HINT = 'See where it is with: alembic current';
    END IF;

    -- 1. Only what carries our mark goes. Where somebody wrote another comment since, it is theirs and stays.
    table_is_ours := obj_description(positions, 'pg_class') IS NOT DISTINCT FROM 'created by revision 012';
    SELECT array_agg(quote_ident(a.attname) ORDER BY a.attname) INTO our_columns
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = positions
      AND NOT a.attisdropped
      AND col_description(a.attrelid, a.attnum) = 'added by revision 012';
    IF NOT table_is_ours AND our_columns IS NULL THEN
        RETURN;
    END IF;

    -- 2. Nobody writes between the look and the drop, and no row policy hides a row from the look.
    IF lock_timeout_before = '0' THEN
        PERFORM set_config('lock_timeout', '5s', true);
    END IF;
    PERFORM set_config('row_security', 'off', true);
    LOCK TABLE public.active_positions IN ACCESS EXCLUSIVE MODE;

    IF table_is_ours THEN
        SELECT count(*) INTO row_count FROM public.active_positions;
        IF row_count > 0 THEN
            losses := ARRAY[row_count || ' row(s)'];
        END IF;
    ELSE
        FOR our_column IN
            SELECT marked.column_name, coalesce(baseline.value_for_old_rows, 'NULL') AS given
            FROM unnest(our_columns) AS marked (column_name)
            LEFT JOIN
            {BASELINE}
                USING (column_name)
            ORDER BY marked.column_name
        LOOP
            EXECUTE 'SELECT count(*) FROM public.active_positions'
                || ' WHERE ' || our_column.column_name || ' IS NOT NULL'
                || ' AND ' || our_column.column_name || '::text'
                || ' IS DISTINCT FROM (' || our_column.given || ')::text'
                INTO row_count;
            IF row_count > 0 THEN
                losses := losses || (our_column.column_name || ' in ' || row_count || ' row(s)');
            END IF;
        END LOOP;
    END IF;

    IF losses IS NOT NULL AND NOT discard THEN
        RAISE EXCEPTION USING
            ERRCODE = 'DF013',
            MESSAGE = 'going below revision 012 would lose what public.active_positions holds: '
                || array_to_string(losses, ', '),
            HINT = 'To lose it on purpose, run: alembic -x discard=active_positions downgrade base';
    END IF;

    -- 3. Without CASCADE: what others built on it stands in the way and is named by PostgreSQL.
    IF table_is_ours THEN
        DROP TABLE public.active_positions;
    ELSE
        EXECUTE 'ALTER TABLE public.active_positions DROP COLUMN '
            || array_to_string(our_columns, ', DROP COLUMN ');
    END IF;
    PERFORM set_config('row_security', row_security_before, true);
    PERFORM set_config('lock_timeout', lock_timeout_before, true);
END
$migration$
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    told = context.get_x_argument(as_dictionary=True).get("discard", "")
    discard = "active_positions" in (table.strip() for table in told.split(","))
    op.execute(downgrade_sql(str(discard).lower()))
