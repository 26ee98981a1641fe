//! Whether a data directory is the one that it was: what tells a physical copy from its original.
//!
//! Every data directory has a mark, a small file in it under a name that base backups leave out. It
//! says where it was written. A directory without a mark, or with one that was written elsewhere, is
//! a copy, and a server that was restored to a point in time is one, too. A standby that is promoted
//! is none: it goes on as what its primary was.

/// The mark of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Random; one for the life of a data directory.
    pub id: String,
    /// The server was a standby: it goes on as what its primary was, whatever that is called.
    pub heir: bool,
    pub place: MarkPlace,
    pub cause: MarkCause,
}

/// Where a mark was written. Copying a file gives it another number, restarting a machine or a
/// container does not; a snapshot of a volume keeps both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkPlace {
    /// Number of the file in its file system.
    pub inode: u64,
    /// The data directory.
    pub path: String,
}

/// Why a mark was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkCause {
    /// There was none: a new server, or a copy made by `pg_basebackup` and the like.
    New,
    /// The server is, or was, a standby.
    Standby,
    /// The server was restored to a point in time.
    Restored,
    /// The one that was there had been written elsewhere.
    Moved,
}

impl MarkCause {
    /// As stored, and shown to SQL.
    pub fn name(self) -> &'static str {
        match self {
            MarkCause::New => "new",
            MarkCause::Standby => "standby",
            MarkCause::Restored => "restored",
            MarkCause::Moved => "moved",
        }
    }

    fn from_name(name: &str) -> Option<MarkCause> {
        let all = [
            MarkCause::New,
            MarkCause::Standby,
            MarkCause::Restored,
            MarkCause::Moved,
        ];
        all.into_iter().find(|cause| cause.name() == name)
    }
}

/// How a server starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Plain,
    /// `standby.signal` is there.
    Standby,
    /// `recovery.signal` is there.
    Recovery,
}

impl Mark {
    /// The text of the file.
    pub fn text(&self) -> String {
        // The path comes last, for it may hold anything.
        format!(
            "id {}\nheir {}\ninode {}\ncause {}\npath {}",
            self.id,
            self.heir,
            self.place.inode,
            self.cause.name(),
            self.place.path
        )
    }

    /// `None`: that is no mark.
    pub fn parse(text: &str) -> Option<Mark> {
        let (head, path) = text.split_once("\npath ")?;
        let value = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        Some(Mark {
            id: value("id")?.to_owned(),
            heir: value("heir")?.parse().ok()?,
            place: MarkPlace {
                inode: value("inode")?.parse().ok()?,
                path: path.to_owned(),
            },
            cause: MarkCause::from_name(value("cause")?)?,
        })
    }
}

/// Whether the mark that is there holds for a server that starts so; if not, why there is to be
/// another one.
pub fn holds(found: Option<&Mark>, start: Start, inode: u64, path: &str) -> Result<(), MarkCause> {
    match (start, found) {
        (Start::Standby, Some(mark)) if mark.heir && is_here(mark, inode, path) => Ok(()),
        (Start::Standby, _) => Err(MarkCause::Standby),
        (Start::Recovery, _) => Err(MarkCause::Restored),
        (Start::Plain, None) => Err(MarkCause::New),
        (Start::Plain, Some(mark)) if is_here(mark, inode, path) => Ok(()),
        (Start::Plain, Some(_)) => Err(MarkCause::Moved),
    }
}

fn is_here(mark: &Mark, inode: u64, path: &str) -> bool {
    mark.place.inode == inode && mark.place.path == path
}

/// The mark that is to be made.
pub fn renewed(cause: MarkCause, id: String, place: MarkPlace) -> Mark {
    Mark {
        id,
        heir: cause == MarkCause::Standby,
        place,
        cause,
    }
}

/// Whether the server goes on as what the database says it was. One that was moved does where the
/// name of the installation comes from outside of the data directory: that it is meant is said there.
pub fn inherits(mark: &Mark, named_outside: bool) -> bool {
    mark.heir || (mark.cause == MarkCause::Moved && named_outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(heir: bool) -> Mark {
        Mark {
            id: "a1".to_owned(),
            heir,
            place: MarkPlace {
                inode: 7,
                path: "/var/lib/postgresql/15/main".to_owned(),
            },
            cause: if heir {
                MarkCause::Standby
            } else {
                MarkCause::New
            },
        }
    }

    const HERE: &str = "/var/lib/postgresql/15/main";

    #[test]
    fn a_mark_survives_being_written() {
        let mut mark = mark(true);
        assert_eq!(Mark::parse(&mark.text()), Some(mark.clone()));
        mark.place.path = "/a path\nwith heir false\nin it".to_owned();
        assert_eq!(Mark::parse(&mark.text()), Some(mark));
        for text in ["", "id a1", "id a1\nheir true\ninode x\ncause new\npath /"] {
            assert_eq!(Mark::parse(text), None);
        }
    }

    #[test]
    fn what_holds() {
        let (plain, heir) = (mark(false), mark(true));
        for (found, start, inode, path, expected) in [
            (None, Start::Plain, 7, HERE, Err(MarkCause::New)),
            (None, Start::Standby, 7, HERE, Err(MarkCause::Standby)),
            (None, Start::Recovery, 7, HERE, Err(MarkCause::Restored)),
            // A restart; after a crash as well.
            (Some(&plain), Start::Plain, 7, HERE, Ok(())),
            // `cp`, a restored archive; a volume that is mounted elsewhere.
            (Some(&plain), Start::Plain, 8, HERE, Err(MarkCause::Moved)),
            (Some(&plain), Start::Plain, 7, "/mnt", Err(MarkCause::Moved)),
            // A primary that has become a standby, and restarts of it.
            (
                Some(&plain),
                Start::Standby,
                7,
                HERE,
                Err(MarkCause::Standby),
            ),
            (Some(&heir), Start::Standby, 7, HERE, Ok(())),
            // After its promotion.
            (Some(&heir), Start::Plain, 7, HERE, Ok(())),
            // A copy of it.
            (Some(&heir), Start::Plain, 8, HERE, Err(MarkCause::Moved)),
            (
                Some(&heir),
                Start::Recovery,
                7,
                HERE,
                Err(MarkCause::Restored),
            ),
        ] {
            assert_eq!(
                holds(found, start, inode, path),
                expected,
                "{found:?} {start:?}"
            );
        }
    }

    #[test]
    fn who_inherits() {
        for cause in [
            MarkCause::New,
            MarkCause::Standby,
            MarkCause::Restored,
            MarkCause::Moved,
        ] {
            let new = renewed(cause, "n".to_owned(), mark(false).place);
            assert_eq!(inherits(&new, false), cause == MarkCause::Standby);
            let meant = matches!(cause, MarkCause::Standby | MarkCause::Moved);
            assert_eq!(inherits(&new, true), meant);
        }
    }
}
