//! Makes up histories: SQL text, from a number.

use serde_json::{Map, Value};

/// How a history ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Each part is a transaction of its own.
    Alone,
    Commit,
    Rollback,
    CommitPrepared,
    RollbackPrepared,
}

/// One transaction, or a few small ones.
#[derive(Debug)]
pub struct History {
    /// Each is sent at once, and undone as a whole if something in it fails.
    pub parts: Vec<String>,
    pub end: End,
}

impl History {
    pub fn make_up(number: u64) -> History {
        let mut author = Author {
            state: number.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            names: 0,
        };
        let end = author.pick(&[
            End::Alone,
            End::Commit,
            End::Commit,
            End::Commit,
            End::Commit,
            End::Rollback,
            End::CommitPrepared,
            End::RollbackPrepared,
        ]);
        let count = 1 + author.below(3);
        let mut parts: Vec<String> = (0..count)
            .map(|_| match end {
                End::Alone => author.command(3),
                _ => author.commands(3),
            })
            .collect();
        if end != End::Alone {
            parts.insert(0, "BEGIN".to_owned());
        }
        History { parts, end }
    }
}

/// Splitmix64, and a counter for names.
struct Author {
    state: u64,
    names: u32,
}

const MOMENTS: [&str; 6] = ["early", "before", "after", "statement", "end", "later"];

impl Author {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn name(&mut self) -> u32 {
        self.names += 1;
        self.names
    }

    /// Commands of a transaction, with savepoints.
    fn commands(&mut self, depth: u32) -> String {
        let count = 1 + self.below(2);
        let lines: Vec<String> = (0..count)
            .map(|_| match self.below(10) {
                0..=5 => self.command(depth),
                6 => "SET CONSTRAINTS ALL IMMEDIATE".to_owned(),
                _ if depth > 0 => self.savepoint(depth - 1),
                _ => self.statement(0),
            })
            .collect();
        lines.join(";\n")
    }

    fn savepoint(&mut self, depth: u32) -> String {
        let name = format!("s{}", self.name());
        let inner = self.commands(depth);
        let end = match self.below(4) {
            0 | 1 => format!("RELEASE {name}"),
            2 => format!("ROLLBACK TO {name}"),
            _ => {
                let more = self.commands(depth);
                format!("ROLLBACK TO {name};\n{more};\nRELEASE {name}")
            }
        };
        format!("SAVEPOINT {name};\n{inner};\n{end}")
    }

    /// What a client or a trigger can run as one command.
    fn command(&mut self, depth: u32) -> String {
        if depth == 0 || self.chance(60) {
            return self.statement(depth);
        }
        let tag = format!("$b{}$", self.name());
        format!("DO {tag} BEGIN {} END {tag}", self.block(depth - 1))
    }

    /// Statements of a PL/pgSQL block.
    fn block(&mut self, depth: u32) -> String {
        let count = 1 + self.below(3);
        let lines: Vec<String> = (0..count)
            .map(|_| match self.below(10) {
                0..=4 => self.statement(depth) + ";",
                5 => "RAISE EXCEPTION 'made up';".to_owned(),
                _ if depth > 0 => {
                    let inner = self.block(depth - 1);
                    let fails = match self.chance(50) {
                        true => "RAISE EXCEPTION 'made up';",
                        false => "",
                    };
                    let after = match self.chance(30) {
                        true => self.block(0),
                        false => "NULL;".to_owned(),
                    };
                    format!("BEGIN {inner} {fails} EXCEPTION WHEN OTHERS THEN {after} END;")
                }
                _ => self.statement(0) + ";",
            })
            .collect();
        lines.join(" ")
    }

    /// A change of rows, which may have triggers do more.
    fn statement(&mut self, depth: u32) -> String {
        let table = self.pick(&["crm.contacts", "crm.companies"]);
        let id = 1 + self.below(6);
        let name = match self.chance(4) {
            true => "bad".to_owned(),
            false => format!("n{}", self.below(4)),
        };
        match self.below(20) {
            0..=6 => format!(
                "INSERT INTO {table} SELECT n, '{name}', {act} FROM generate_series({id}, {last}) n \
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name || 'x', act = excluded.act",
                last = id + self.below(3),
                act = self.act(depth),
            ),
            7 => format!(
                "INSERT INTO {table} VALUES ({id}, '{name}', {})",
                self.act(depth)
            ),
            8..=14 => format!(
                "UPDATE {table} SET name = '{name}', act = {} WHERE id BETWEEN {id} AND {}",
                self.act(depth),
                id + self.below(4),
            ),
            15 => format!("UPDATE {table} SET id = id + 6, act = NULL WHERE id = {id}"),
            16..=18 => format!(
                "DELETE FROM {table} WHERE id BETWEEN {id} AND {} OR id > 6",
                id + self.below(2)
            ),
            _ => format!("TRUNCATE {table}"),
        }
    }

    /// What triggers are to do, and when.
    fn act(&mut self, depth: u32) -> String {
        if depth == 0 || self.chance(40) {
            return "NULL".to_owned();
        }
        let mut acts = Map::new();
        for _ in 0..1 + self.below(2) {
            let moment = self.pick(&MOMENTS);
            let act = self.command(depth - 1);
            acts.insert(moment.to_owned(), Value::String(act));
        }
        let tag = format!("$a{}$", self.name());
        format!("{tag}{}{tag}", Value::Object(acts))
    }
}
