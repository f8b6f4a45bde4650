"""Images as whole rows: an after-image may hold only what its run wrote (docs/reference/views.md, audit tables)."""

from collections.abc import Collection, Iterable

from datafixes.script.literal import name, qualified, text


def whole_images(schema: str, audit: str, columns: Iterable[str], key: Collection[str]) -> str:
    """The query for all images with their run, image and columns."""
    held = (
        "noted.run_id IS NULL OR {0} = ANY (noted.key_columns || noted.written_columns)"
        " OR noted.shape -> 'columns' @> jsonb_build_array(jsonb_build_object('name', {0}, 'generated', true))"
    )
    whole = ", ".join(
        f"CASE WHEN {held.format(text(one))} THEN i.{name(one)} ELSE b.{name(one)} END AS {name(one)}"
        for one in columns
    )
    same = " AND ".join(f"b.{name(one)} IS NOT DISTINCT FROM i.{name(one)}" for one in key) or "false"
    table = qualified(schema, audit)
    return (
        f"(SELECT i.audit_run_id, i.audit_image, {whole} FROM {table} AS i"
        f" LEFT JOIN {qualified(schema, 'datafix_run_table')} AS noted ON i.audit_image = 'after'"
        " AND noted.run_id = i.audit_run_id AND noted.written_columns <> '{}'"
        f" LEFT JOIN {table} AS b ON b.audit_run_id = noted.run_id AND b.audit_image = 'before' AND {same})"
    )
