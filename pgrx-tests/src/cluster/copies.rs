//! Copies of a throw-away server: standbys, backups, files and upgrades.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
};

use super::{Cluster, initialise};
use crate::{
    process::{as_server_user, bin, run},
    sql::quote_literal,
};

impl Cluster {
    /// A streaming standby of this server, running.
    pub fn standby(&self) -> Cluster {
        self.backup(&["--write-recovery-conf"], "")
    }

    /// A base backup of this server, started as it is.
    pub fn base_backup(&self) -> Cluster {
        self.backup(&[], "")
    }

    /// This server, restored from a base backup to the end of what was written then.
    pub fn restored(&self) -> Cluster {
        self.backup(
            &[],
            "restore_command = '/bin/false'\nrecovery_target = 'immediate'\nrecovery_target_action = 'promote'\n",
        )
    }

    fn backup(&self, arguments: &[&str], settings: &str) -> Cluster {
        let copy = self.files_backed_up(arguments);
        if !settings.is_empty() {
            run(as_server_user("touch").arg(copy.data().join("recovery.signal")));
        }
        copy.launch_with(settings);
        copy
    }

    /// A base backup of this server that is not started, for [`Cluster::recover`].
    pub fn backed_up(&self) -> Cluster {
        self.files_backed_up(&[])
    }

    /// Starts a base backup of a server, which recovers from that one's archive up to a restore point.
    pub fn recover(&self, archive: &Path, point: &str) {
        run(as_server_user("touch").arg(self.data().join("recovery.signal")));
        self.launch_with(&format!(
            "restore_command = 'cp {}/%f %p'\nrecovery_target_name = {}\nrecovery_target_action = 'promote'\n",
            archive.display(),
            quote_literal(point)
        ));
    }

    /// This server, which has been stopped, upgraded by pg_upgrade into another data directory, and
    /// started.
    pub fn upgraded(&self) -> Cluster {
        let new = self.in_another_directory();
        initialise(&new.data());
        run(as_server_user("cp")
            .arg(self.data().join("postgresql.conf"))
            .arg(new.data().join("postgresql.conf")));
        let programs = bin("postgres").parent().unwrap().to_owned();
        run(as_server_user(bin("pg_upgrade"))
            .current_dir(&new.dir)
            .args(["--username=postgres", "--old-bindir"])
            .arg(&programs)
            .arg("--new-bindir")
            .arg(&programs)
            .arg("--old-datadir")
            .arg(self.data())
            .arg("--new-datadir")
            .arg(new.data())
            .arg("--socketdir")
            .arg(&new.dir));
        new.launch_with("");
        new
    }

    fn files_backed_up(&self, arguments: &[&str]) -> Cluster {
        let copy = self.in_another_directory();
        run(as_server_user(bin("pg_basebackup"))
            .args(arguments)
            .args([
                "--wal-method=stream",
                "--checkpoint=fast",
                "--no-sync",
                "--username=postgres",
            ])
            .arg("--host")
            .arg(&self.dir)
            .arg("--pgdata")
            .arg(copy.data()));
        copy
    }

    /// A copy of this server's files, started. The server has been stopped.
    pub fn copied_files(&self) -> Cluster {
        let copy = self.in_another_directory();
        run(as_server_user("cp")
            .arg("-a")
            .arg(self.data())
            .arg(copy.data()));
        copy.launch_with("");
        copy
    }

    /// Moves the files of this server, which has been stopped, to another disk.
    pub fn move_files(&self) {
        let moved = self.dir.join("moved");
        run(as_server_user("cp").arg("-a").arg(self.data()).arg(&moved));
        fs::remove_dir_all(self.data()).unwrap();
        fs::rename(moved, self.data()).unwrap();
    }

    fn in_another_directory(&self) -> Cluster {
        let environment: Vec<(&str, &str)> = self
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Cluster::in_directory(&environment)
    }

    fn launch_with(&self, settings: &str) {
        let mut conf = OpenOptions::new()
            .append(true)
            .open(self.data().join("postgresql.conf"))
            .unwrap();
        writeln!(
            conf,
            "unix_socket_directories = {}\n{settings}",
            quote_literal(self.dir.to_str().unwrap())
        )
        .unwrap();
        self.launch();
    }

    pub fn promote(&self) {
        let promoted: bool = self
            .connect("postgres")
            .query_one("SELECT pg_promote()", &[])
            .unwrap()
            .get(0);
        assert!(promoted, "not promoted:\n{}", self.log_tail());
    }
}
