-- What a copy of this database differs in, and whether it may send.

CREATE FUNCTION _identity_in(incarnation text) RETURNS text LANGUAGE sql STABLE
    RETURN concat_ws('/', (SELECT system_identifier FROM pg_catalog.pg_control_system()), coalesce(incarnation, ''), current_database(), _environment());
COMMENT ON FUNCTION _identity_in(text) IS 'see _identity(), for a data directory';

CREATE FUNCTION _identity() RETURNS text LANGUAGE sql STABLE
    RETURN _identity_in((SELECT coalesce((SELECT s.incarnation FROM _server s WHERE i.heir), i.id) FROM _incarnation() i));
COMMENT ON FUNCTION _identity() IS 'what a copy of this database differs in: system identifier, data directory, database name, integration.environment; a promoted standby goes by the data directory of its primary';

CREATE FUNCTION _note_server() RETURNS void LANGUAGE sql VOLATILE BEGIN ATOMIC
    UPDATE _server s SET incarnation = i.id FROM _incarnation() i WHERE NOT i.heir AND s.incarnation <> i.id;
    INSERT INTO _server (incarnation) SELECT i.id FROM _incarnation() i WHERE NOT EXISTS (SELECT FROM _server) ON CONFLICT (single) DO NOTHING;
    -- Set up while the library was not preloaded, and nothing was known of the data directory.
    UPDATE tracked_table t SET bound_to = _identity() WHERE t.bound_to = _identity_in('') AND t.bound_to <> _identity();
END;
COMMENT ON FUNCTION _note_server() IS 'notes which data directory the database is in; writes nothing where that is known';

CREATE FUNCTION _why_fenced() RETURNS text LANGUAGE sql STABLE
    RETURN (
        SELECT CASE
                   WHEN split_part(t.bound_to, '/', 1) <> split_part(n.identity, '/', 1)
                       THEN 'it was set up on another server: this is a restored dump, or the server was upgraded by pg_upgrade'
                   WHEN NOT starts_with(p.bound, current_database() || '/')
                       THEN format('it was set up in a database called %s: this is a copy of that, or it was renamed', split_part(p.bound, '/', 1))
                   WHEN p.bound <> p.now
                       THEN format('integration.environment was %L when it was set up', substr(p.bound, length(current_database()) + 2))
                   ELSE CASE i.cause
                       WHEN 'restored' THEN 'this server was restored to a point in time'
                       WHEN 'moved' THEN 'the data directory was copied or moved'
                       ELSE 'this server was made from a copy of another one''s data directory' END
               END || '. It captures changes and sends nothing. If it shall send, and the other one does not: SELECT integration.adopt();'
        FROM tracked_table t
        CROSS JOIN (SELECT _identity() AS identity) n
        CROSS JOIN LATERAL (SELECT substr(t.bound_to, length(split_part(t.bound_to, '/', 1)) + length(split_part(t.bound_to, '/', 2)) + 3) AS bound,
                                   substr(n.identity, length(split_part(n.identity, '/', 1)) + length(split_part(n.identity, '/', 2)) + 3) AS now) p
        LEFT JOIN _incarnation() i ON true
        WHERE t.bound_to <> n.identity AND t.targets <> '{}'
        ORDER BY t.id LIMIT 1);
COMMENT ON FUNCTION _why_fenced() IS 'why this database may not send, for people; NULL: it may';
