-- 300 companies and 5,008 contacts. Made up by counting through lists of words, so that every run has the same.

INSERT INTO crm.companies (name, domain, phone, city, country, employees)
SELECT format('%s %s%s', a.word, b.word, CASE WHEN n >= 150 THEN ' & Co' END),
       lower(format('%s-%s-%s.example.com', a.word, b.word, n)),
       format('+49 30 %s', 5550000 + n),
       c.city, c.country,
       (ARRAY[4, 12, 35, 80, 250, 1200])[1 + n % 6]
FROM generate_series(0, 299) n
JOIN unnest(ARRAY['Northern', 'Golden', 'Blue', 'Old', 'Rapid', 'Quiet', 'Bright', 'Stone', 'River', 'Harbour'])
     WITH ORDINALITY AS a(word, place) ON a.place = 1 + n % 10
JOIN unnest(ARRAY['Bakery', 'Logistics', 'Robotics', 'Textiles', 'Printing', 'Gardens', 'Timber', 'Optics', 'Bicycles', 'Foods',
                  'Software', 'Ceramics', 'Energy', 'Tools', 'Paper'])
     WITH ORDINALITY AS b(word, place) ON b.place = 1 + n / 10 % 15
JOIN (VALUES (0, 'Berlin', 'Germany'), (1, 'Łódź', 'Poland'), (2, 'Lyon', 'France'), (3, 'Zürich', 'Switzerland'), (4, 'Porto', 'Portugal'))
     AS c(place, city, country) ON c.place = n % 5;

WITH person AS (
    SELECT n, f.word AS first, l.word AS last, j.word AS job,
           -- The part before the @ has to be ASCII.
           translate(lower(f.word || '.' || l.word), 'éöłü''', 'eolu') AS plain
    FROM generate_series(1, 5000) n
    JOIN unnest(ARRAY['Ada', 'Ben', 'Clara', 'David', 'Emma', 'Felix', 'Grace', 'Hugo', 'Irene', 'Jonas', 'Karin', 'Leo', 'Mia',
                      'Noah', 'Olga', 'Paul', 'Rosa', 'Simon', 'Tara', 'Victor', 'Wanda', 'Zoé', 'Jörg', 'Łucja'])
         WITH ORDINALITY AS f(word, place) ON f.place = 1 + n % 24
    JOIN unnest(ARRAY['Archer', 'Baker', 'Carter', 'Cooper', 'Farmer', 'Fisher', 'Gardener', 'Hunter', 'Mason', 'Miller', 'Parker',
                      'Potter', 'Shepherd', 'Smith', 'Taylor', 'Turner', 'Walker', 'Weaver', 'Wright', 'O''Neill', 'Müller', 'Dubois', 'Kowalski'])
         WITH ORDINALITY AS l(word, place) ON l.place = 1 + n % 23
    JOIN unnest(ARRAY['Head of Sales', 'Buyer', 'Engineer', 'Office Manager', 'Managing Director', 'Accountant', 'Marketing Lead'])
         WITH ORDINALITY AS j(word, place) ON j.place = 1 + n % 7
)
INSERT INTO crm.contacts (company_id, email, first_name, last_name, phone, job_title, lifecycle_stage, marketing_opt_in)
SELECT 1 + n % 300,
       CASE WHEN n % 11 = 0 THEN format('%s+crm%s@example.org', plain, n)
            WHEN n % 7 = 0 THEN initcap(format('%s%s@Example.Com', plain, n))
            ELSE format('%s%s@example.com', plain, n) END,
       first, last,
       CASE WHEN n % 9 <> 0 THEN format('+49 151 %s', 20000000 + n) END,
       job,
       CASE n % 5 WHEN 0 THEN 'opportunity' WHEN 1 THEN 'subscriber' ELSE 'lead' END,
       CASE WHEN n % 10 < 6 THEN true WHEN n % 10 < 9 THEN false END
FROM person;

-- Typed in by hand; with the errors that go with that.
\copy crm.contacts (email, first_name, last_name, phone, job_title, lifecycle_stage, marketing_opt_in) from 'scripts/demo/fair.csv' (format csv, header)
