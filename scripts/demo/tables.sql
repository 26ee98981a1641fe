-- The CRM, before integration knows of it.

CREATE SCHEMA crm;

CREATE TABLE crm.companies (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name      text NOT NULL,
    domain    text,
    phone     text,
    city      text,
    country   text,
    employees integer
);

CREATE TABLE crm.contacts (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    company_id       bigint REFERENCES crm.companies,
    email            text NOT NULL,
    first_name       text,
    last_name        text,
    phone            text,
    job_title        text,
    lifecycle_stage  text,
    marketing_opt_in boolean,
    notes            text
);
CREATE UNIQUE INDEX contacts_email ON crm.contacts (lower(email));
