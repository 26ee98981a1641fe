-- What the services hold, from JSON files in $DEMO_WORK, next to what the CRM says they should.

\set companies `cat "$DEMO_WORK/companies.json"`
\set contacts `cat "$DEMO_WORK/contacts.json"`
\set members `cat "$DEMO_WORK/members.json"`

SET client_min_messages = warning;
DROP SCHEMA IF EXISTS there CASCADE;
CREATE SCHEMA there;

-- Empty and absent are the same to the services.
CREATE FUNCTION there.filled(jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each_text($1) WHERE value <> ''
$$;

CREATE TABLE there.held AS
    SELECT 'companies in HubSpot' AS what, split_part(r->'properties'->>'crm_id', ':', 3) AS key, r->'properties' AS fields
    FROM jsonb_array_elements(:'companies') r
    UNION ALL
    SELECT 'contacts in HubSpot', r->'properties'->>'email', r->'properties'
    FROM jsonb_array_elements(:'contacts') r
    UNION ALL
    SELECT 'subscribed in Mailchimp', lower(r->>'email'), r->'merge_fields'
    FROM jsonb_array_elements(:'members') r WHERE r->>'status' = 'subscribed'
    UNION ALL
    SELECT 'unsubscribed in Mailchimp', lower(r->>'email'), '{}'
    FROM jsonb_array_elements(:'members') r WHERE r->>'status' = 'unsubscribed';

CREATE VIEW there.wanted AS
    SELECT 'companies in HubSpot' AS what, c.id::text AS key,
           jsonb_build_object('name', c.name, 'domain', c.domain, 'phone', c.phone, 'city', c.city, 'country', c.country,
                              'numberofemployees', c.employees::text) AS fields,
           'hubspot' AS target, 'crm.companies'::regclass AS source, c.id::text AS record_key
    FROM crm.companies c
    UNION ALL
    SELECT 'contacts in HubSpot', lower(c.email),
           jsonb_build_object('crm_id', (SELECT external_id_prefix FROM integration.tracked_table WHERE source = 'crm.contacts'::regclass) || c.id::text, 'email', lower(c.email), 'firstname', c.first_name, 'lastname', c.last_name,
                              'phone', c.phone, 'jobtitle', c.job_title, 'lifecyclestage', c.lifecycle_stage),
           'hubspot', 'crm.contacts'::regclass, c.id::text
    FROM crm.contacts c
    UNION ALL
    SELECT 'subscribed in Mailchimp', lower(c.email), jsonb_build_object('FNAME', c.first_name, 'LNAME', c.last_name, 'PHONE', c.phone),
           'mailchimp', 'crm.contacts'::regclass, c.id::text
    FROM crm.contacts c WHERE c.marketing_opt_in
    UNION ALL
    -- Those who were members once, and opted out here or there.
    SELECT 'unsubscribed in Mailchimp', lower(c.email), '{}', 'mailchimp', 'crm.contacts'::regclass, c.id::text
    FROM crm.contacts c JOIN integration.link l ON l.source = 'crm.contacts'::regclass AND l.record_key = c.id::text AND l.target = 'mailchimp'
    WHERE c.marketing_opt_in IS NOT TRUE;

CREATE VIEW there.compared AS
    SELECT coalesce(w.what, h.what) AS what, coalesce(w.key, h.key) AS key, d.dead,
           w.key IS NOT NULL AS in_crm, h.key IS NOT NULL AS there, there.filled(w.fields) AS wanted,
           -- Of what is held, only what the CRM speaks of.
           (SELECT coalesce(jsonb_object_agg(f.key, f.value), '{}') FROM jsonb_each(there.filled(h.fields)) f WHERE w.fields ? f.key) AS held
    FROM there.wanted w
    FULL JOIN there.held h ON (h.what, h.key) = (w.what, w.key)
    CROSS JOIN LATERAL (SELECT EXISTS (
        SELECT FROM integration.dlq q
        WHERE q.resolution IS NULL AND (q.target, q.source, q.record_key) = (w.target, w.source, w.record_key)) AS dead) d;

CREATE VIEW there.comparison AS
    SELECT what, count(*) FILTER (WHERE in_crm) AS "in the CRM", count(*) FILTER (WHERE there) AS there,
           count(*) FILTER (WHERE dead) AS "dead letters",
           count(*) FILTER (WHERE in_crm AND NOT there AND NOT dead) AS missing,
           count(*) FILTER (WHERE there AND NOT in_crm) AS "too many",
           count(*) FILTER (WHERE in_crm AND there AND NOT dead AND wanted <> held) AS different
    FROM there.compared GROUP BY what ORDER BY what;

CREATE VIEW there.differences AS
    SELECT c.what, c.key, coalesce(nullif(f.field, ''), 'exists') AS field,
           CASE f.field WHEN '' THEN c.in_crm::text ELSE c.wanted->>f.field END AS "in the CRM",
           CASE f.field WHEN '' THEN c.there::text ELSE c.held->>f.field END AS there
    FROM there.compared c
    CROSS JOIN LATERAL jsonb_object_keys(c.wanted || c.held || '{"": ""}') AS f(field)
    WHERE NOT c.dead AND CASE f.field WHEN '' THEN c.in_crm <> c.there
                                      ELSE c.in_crm AND c.there AND c.wanted->>f.field IS DISTINCT FROM c.held->>f.field END;

-- One contact as the three know it.
CREATE VIEW there.side_by_side AS
    SELECT c.id, concat_ws(' ', c.first_name, c.last_name) AS "in the CRM", c.phone, c.marketing_opt_in AS "opt-in",
           h.fields->>'phone' AS "in HubSpot", split_part(m.what, ' ', 1) AS "in Mailchimp"
    FROM crm.contacts c
    LEFT JOIN there.held h ON h.what = 'contacts in HubSpot' AND h.key = lower(c.email)
    LEFT JOIN there.held m ON m.what LIKE '%in Mailchimp' AND m.key = lower(c.email);
