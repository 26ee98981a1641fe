-- What track() makes of columns by their types.

CREATE FUNCTION _value_kind(type_oid oid) RETURNS text LANGUAGE sql STABLE
    RETURN (
        WITH RECURSIVE base(oid, typtype, typcategory, typbasetype, typelem) AS (
            SELECT t.oid, t.typtype, t.typcategory, t.typbasetype, t.typelem FROM pg_catalog.pg_type t WHERE t.oid = type_oid
            UNION ALL
            SELECT t.oid, t.typtype, t.typcategory, t.typbasetype, t.typelem
            FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
        )
        SELECT CASE
            WHEN b.oid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN 'integer'
            WHEN b.oid = 'numeric'::regtype THEN 'decimal'
            WHEN b.oid IN ('float4'::regtype, 'float8'::regtype) THEN 'float'
            WHEN b.oid = 'bool'::regtype THEN 'bool'
            WHEN b.oid = 'date'::regtype THEN 'date'
            WHEN b.oid = 'timestamp'::regtype THEN 'timestamp'
            WHEN b.oid = 'timestamptz'::regtype THEN 'timestamptz'
            WHEN b.oid IN ('json'::regtype, 'jsonb'::regtype) THEN 'json'
            WHEN b.typcategory = 'A' AND (SELECT e.typcategory IN ('S', 'E') FROM pg_catalog.pg_type e WHERE e.oid = b.typelem) THEN 'text_array'
            WHEN b.typcategory IN ('S', 'E') OR b.oid IN ('uuid'::regtype, 'inet'::regtype) THEN 'text'
        END
        FROM base b WHERE b.typtype <> 'd');
COMMENT ON FUNCTION _value_kind(oid) IS 'how values of a type are converted for a service; NULL: they cannot be';
