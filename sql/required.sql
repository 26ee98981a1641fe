-- What HubSpot requires of a record, said when a table begins to be tracked.

CREATE FUNCTION _say_what_hubspot_requires(t tracked_table) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    unmapped text;
BEGIN
    SELECT string_agg(replace(r.names, '|', ' or '), ', ') INTO unmapped
    FROM integration._kind(t.entity) AS k CROSS JOIN unnest(k.required) AS r(names)
    WHERE NOT EXISTS (
        SELECT FROM integration.field_map m
        WHERE m.source = t.source AND m.target = 'hubspot' AND m.direction <> 'pull' AND m.remote_field = ANY (string_to_array(r.names, '|')));
    IF unmapped IS NOT NULL THEN
        RAISE NOTICE 'HubSpot creates no % without %, and no column is mapped to it', t.entity, unmapped
            USING HINT = format('SELECT integration.map_field(%L, ''column'', ''hubspot'', %L);', t.source, split_part(replace(unmapped, ' or ', ', '), ', ', 1));
    END IF;
END
$$;
COMMENT ON FUNCTION _say_what_hubspot_requires(tracked_table) IS 'tells by NOTICE which properties HubSpot requires that are not mapped';
