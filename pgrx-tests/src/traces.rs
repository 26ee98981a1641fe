//! Whether anything of a person is left in the extension's own tables, whatever those are.

use postgres::Client;

use crate::sql::quote_literal;

/// Every column of every table of the extension, as text; binary ones with their printable bytes.
const COLUMNS: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), quote_ident(a.attname), a.atttypid = 'bytea'::regtype
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'integration' AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY 1, a.attnum";

/// Where some of these texts still stand, whatever their case.
pub fn traces(client: &mut Client, texts: &[&str]) -> Vec<String> {
    let columns = client.query(COLUMNS, &[]).unwrap();
    assert!(columns.len() > 100, "the tables are looked through");
    let mut found = Vec::new();
    for column in columns {
        let (table, name): (String, String) = (column.get(0), column.get(1));
        let value = match column.get(2) {
            true => format!("encode(t.{name}, 'escape')"),
            false => format!("t.{name}::text"),
        };
        let wanted: Vec<String> = texts
            .iter()
            .map(|text| quote_literal(&text.to_lowercase()))
            .collect();
        let sql = format!(
            "SELECT {value} FROM {table} t WHERE EXISTS (SELECT FROM unnest(ARRAY[{}]) AS n(text) WHERE strpos(lower({value}), n.text) > 0)",
            wanted.join(", ")
        );
        for row in client.query(&sql, &[]).unwrap() {
            found.push(format!("{table}.{name}: {}", row.get::<_, String>(0)));
        }
    }
    found
}
