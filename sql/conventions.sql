-- What track() makes of columns by their types and names.

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

CREATE FUNCTION _conventions(entity text) RETURNS TABLE (target text, remote_field text, names text[]) LANGUAGE sql IMMUTABLE
AS $$
    SELECT c.target, c.remote_field, c.names::text[] FROM (VALUES
        ('contact', 'hubspot', 'email', '{email,email_address,e_mail,mail}'),
        ('contact', 'hubspot', 'firstname', '{first_name,firstname,given_name,forename}'),
        ('contact', 'hubspot', 'lastname', '{last_name,lastname,family_name,surname}'),
        ('contact', 'hubspot', 'phone', '{phone,phone_number,telephone,tel}'),
        ('contact', 'hubspot', 'mobilephone', '{mobile,mobile_phone,cell_phone}'),
        ('contact', 'hubspot', 'company', '{company,company_name,organisation,organization}'),
        ('contact', 'hubspot', 'jobtitle', '{job_title,jobtitle,position}'),
        ('contact', 'hubspot', 'website', '{website,url,homepage}'),
        ('contact', 'hubspot', 'address', '{street,address,address_line_1}'),
        ('contact', 'hubspot', 'city', '{city,town}'),
        ('contact', 'hubspot', 'state', '{state,region,province}'),
        ('contact', 'hubspot', 'zip', '{zip,postal_code,postcode,zip_code}'),
        ('contact', 'hubspot', 'country', '{country,country_name}'),
        ('contact', 'hubspot', 'lifecyclestage', '{lifecycle_stage,lifecyclestage}'),
        ('contact', 'mailchimp', 'email_address', '{email,email_address,e_mail,mail}'),
        ('contact', 'mailchimp', 'FNAME', '{first_name,firstname,given_name,forename}'),
        ('contact', 'mailchimp', 'LNAME', '{last_name,lastname,family_name,surname}'),
        ('contact', 'mailchimp', 'PHONE', '{phone,phone_number,telephone,tel}'),
        ('contact', 'mailchimp', 'language', '{language,locale,lang}'),
        ('contact', 'mailchimp', 'status', '{email_subscription_status,marketing_opt_in,marketing_consent,email_opt_in,newsletter_opt_in,opt_in,opted_in,subscribed,newsletter}'),
        ('company', 'hubspot', 'name', '{name,company_name}'),
        ('company', 'hubspot', 'domain', '{domain,website_domain}'),
        ('company', 'hubspot', 'website', '{website,url,homepage}'),
        ('company', 'hubspot', 'phone', '{phone,phone_number,telephone,tel}'),
        ('company', 'hubspot', 'address', '{street,address,address_line_1}'),
        ('company', 'hubspot', 'city', '{city,town}'),
        ('company', 'hubspot', 'state', '{state,region,province}'),
        ('company', 'hubspot', 'zip', '{zip,postal_code,postcode,zip_code}'),
        ('company', 'hubspot', 'country', '{country,country_name}'),
        ('company', 'hubspot', 'industry', '{industry}'),
        ('company', 'hubspot', 'numberofemployees', '{employees,employee_count,number_of_employees}'),
        ('deal', 'hubspot', 'dealname', '{dealname,deal_name,name,title}'),
        ('deal', 'hubspot', 'amount', '{amount,value}'),
        ('deal', 'hubspot', 'dealstage', '{stage,deal_stage,dealstage}'),
        ('deal', 'hubspot', 'pipeline', '{pipeline}'),
        ('deal', 'hubspot', 'closedate', '{close_date,closedate,closed_at}'),
        ('deal', 'hubspot', 'description', '{description}'),
        ('note', 'hubspot', 'hs_note_body', '{body,note,text,content}'),
        ('note', 'hubspot', 'hs_timestamp', '{occurred_at,noted_at,timestamp,created_at}'),
        ('call', 'hubspot', 'hs_call_title', '{title,subject}'),
        ('call', 'hubspot', 'hs_call_body', '{body,notes,description}'),
        ('call', 'hubspot', 'hs_call_direction', '{direction}'),
        ('call', 'hubspot', 'hs_call_status', '{status}'),
        ('call', 'hubspot', 'hs_call_duration', '{duration_ms}'),
        ('call', 'hubspot', 'hs_call_from_number', '{from_number}'),
        ('call', 'hubspot', 'hs_call_to_number', '{to_number}'),
        ('call', 'hubspot', 'hs_timestamp', '{occurred_at,called_at,started_at,timestamp,created_at}'),
        ('email', 'hubspot', 'hs_email_subject', '{subject,title}'),
        ('email', 'hubspot', 'hs_email_text', '{body,text,body_text}'),
        ('email', 'hubspot', 'hs_email_html', '{html,body_html}'),
        ('email', 'hubspot', 'hs_email_direction', '{direction}'),
        ('email', 'hubspot', 'hs_email_status', '{status}'),
        ('email', 'hubspot', 'hs_timestamp', '{occurred_at,sent_at,received_at,timestamp,created_at}'),
        ('meeting', 'hubspot', 'hs_meeting_title', '{title,subject,name}'),
        ('meeting', 'hubspot', 'hs_meeting_body', '{body,description,agenda}'),
        ('meeting', 'hubspot', 'hs_meeting_location', '{location,place}'),
        ('meeting', 'hubspot', 'hs_meeting_outcome', '{outcome}'),
        ('meeting', 'hubspot', 'hs_meeting_start_time', '{start_time,starts_at,started_at}'),
        ('meeting', 'hubspot', 'hs_meeting_end_time', '{end_time,ends_at,ended_at}'),
        ('meeting', 'hubspot', 'hs_timestamp', '{occurred_at,start_time,starts_at,started_at,timestamp,created_at}'),
        ('task', 'hubspot', 'hs_task_subject', '{subject,title,name}'),
        ('task', 'hubspot', 'hs_task_body', '{body,description,notes}'),
        ('task', 'hubspot', 'hs_task_status', '{status}'),
        ('task', 'hubspot', 'hs_task_priority', '{priority}'),
        ('task', 'hubspot', 'hs_task_type', '{type,kind}'),
        ('task', 'hubspot', 'hs_timestamp', '{due_at,due_date,due_on,occurred_at,timestamp,created_at}')
    ) AS c(entity, target, remote_field, names)
    WHERE c.entity = $1
    UNION ALL
    SELECT 'hubspot', 'hubspot_owner_id', '{owner_email,hubspot_owner_id}'::text[]
    WHERE $1 IN ('deal', 'note', 'call', 'email', 'meeting', 'task')
$$;
COMMENT ON FUNCTION _conventions(text) IS 'column names that track() recognises, best first';
