//! A throw-away PostgreSQL with the extension preloaded.

mod copies;

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal;
use postgres::{Client, Config, NoTls};

use crate::{
    janitor::Janitor,
    process::{as_server_user, bin, children, give_to_server_user, is_running, kill9, run, signal},
    sql::quote_literal,
    wait::{try_until, wait_until},
};

/// What the worker calls itself in `pg_stat_activity`.
pub const WORKER_BACKEND_TYPE: &str = "integration worker";

/// Long enough for a busy machine; only a broken server ever takes it.
const LONG: Duration = Duration::from_secs(60);

/// Settings of every cluster. Nothing is forced to disk, because processes get killed here and the
/// machine does not; but commits are written, so that they survive that.
const SETTINGS: &[(&str, &str)] = &[
    ("shared_preload_libraries", "integration"),
    // What the sandbox lets in with is no secret.
    ("integration.allow_literal_secrets", "on"),
    ("listen_addresses", ""),
    ("port", "5432"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "64MB"),
    ("max_connections", "60"),
    ("max_worker_processes", "40"),
    ("max_wal_size", "2GB"),
    ("log_checkpoints", "off"),
    ("log_line_prefix", "%m [%p] %b %d "),
];

/// How a server is to be ended.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// Waits for clients to leave.
    Smart,
    /// Ends clients, writes everything out.
    Fast,
    /// Ends everything at once; the next start recovers.
    Immediate,
}

#[derive(Debug)]
pub struct Cluster {
    /// Holds `data`, the log and the socket.
    dir: PathBuf,
    environment: Vec<(String, String)>,
    server: Mutex<Option<Child>>,
    next_database: AtomicU32,
    janitor: Janitor,
}

impl Cluster {
    /// One that tests share, each with a database of its own.
    pub fn shared() -> Arc<Cluster> {
        static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
        SHARED
            .get_or_init(|| Arc::new(Cluster::start(&[], &[])))
            .clone()
    }

    /// A new server. `settings` override the usual ones; `environment` is what `env:NAME` reads.
    pub fn start(settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Cluster {
        let cluster = Cluster::in_directory(environment);
        run(as_server_user("cp")
            .arg("-a")
            .arg(template())
            .arg(cluster.data()));
        let lines: String = SETTINGS
            .iter()
            .chain(settings)
            .map(|(name, value)| format!("{name} = {}\n", quote_literal(value)))
            .chain([format!(
                "unix_socket_directories = {}\n",
                quote_literal(cluster.dir.to_str().unwrap())
            )])
            .collect();
        let mut conf = OpenOptions::new()
            .append(true)
            .open(cluster.data().join("postgresql.conf"))
            .unwrap();
        conf.write_all(lines.as_bytes()).unwrap();
        cluster.launch();
        cluster
    }

    fn in_directory(environment: &[(&str, &str)]) -> Cluster {
        let dir = tempfile::Builder::new()
            .prefix("integration-test-")
            .tempdir()
            .unwrap()
            .keep();
        give_to_server_user(&dir);
        Cluster {
            janitor: Janitor::watch(&dir),
            dir,
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            server: Mutex::new(None),
            next_database: AtomicU32::new(1),
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Starts the server and waits until it takes connections.
    pub fn launch(&self) {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let child = as_server_user(bin("postgres"))
            .arg("-D")
            .arg(self.data())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        *self.server.lock().unwrap() = Some(child);
        let up = try_until(LONG, || {
            if let Some(status) = self
                .server
                .lock()
                .unwrap()
                .as_mut()
                .unwrap()
                .try_wait()
                .unwrap()
            {
                panic!("the server ended with {status}:\n{}", self.log_tail());
            }
            self.try_connect("postgres").ok()
        });
        assert!(
            up.is_some(),
            "the server does not take connections:\n{}",
            self.log_tail()
        );
    }

    /// Ends the server and everything it started.
    pub fn stop(&self, how: Stop) {
        let how = match how {
            Stop::Smart => Signal::SIGTERM,
            Stop::Fast => Signal::SIGINT,
            Stop::Immediate => Signal::SIGQUIT,
        };
        let mut server = self.server.lock().unwrap();
        let child = server.as_mut().expect("the server is not running");
        signal(child.id().cast_signed(), how);
        wait_until("the server has shut down", LONG, || {
            child.try_wait().unwrap()
        });
        *server = None;
    }

    /// SIGKILL to the postmaster; its children notice and end by themselves. The log must not say
    /// that they had to be waited for.
    pub fn kill9(&self) {
        let mut server = self.server.lock().unwrap();
        let child = server.as_mut().expect("the server is not running");
        // Stopped first: a child that it started after we looked would not be waited for.
        signal(child.id().cast_signed(), Signal::SIGSTOP);
        let orphans = children(child.id().cast_signed());
        kill9(child.id().cast_signed());
        child.wait().unwrap();
        *server = None;
        wait_until("the children of a killed postmaster are gone", LONG, || {
            orphans.iter().all(|pid| !is_running(*pid)).then_some(())
        });
    }

    pub fn postmaster_pid(&self) -> i32 {
        self.server
            .lock()
            .unwrap()
            .as_ref()
            .expect("the server is not running")
            .id()
            .cast_signed()
    }

    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.dir)
            .user("postgres")
            .dbname(database)
            .application_name("test");
        config
    }

    pub fn connect(&self, database: &str) -> Client {
        self.try_connect(database).unwrap()
    }

    pub fn try_connect(&self, database: &str) -> Result<Client, postgres::Error> {
        self.config(database).connect(NoTls)
    }

    /// A session whose notices are handed to `heard`.
    pub fn connect_with_notices(
        &self,
        database: &str,
        heard: impl Fn(postgres::error::DbError) + Send + Sync + 'static,
    ) -> Client {
        let mut config = self.config(database);
        config.notice_callback(heard).connect(NoTls).unwrap()
    }

    /// Where the socket is, for programs such as pgbench and pg_dump.
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// Creates an empty database with a name of its own.
    pub fn create_database(&self) -> String {
        let name = format!("crm_{}", self.next_database.fetch_add(1, Ordering::Relaxed));
        self.connect("postgres")
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .unwrap();
        name
    }

    /// `ALTER SYSTEM SET` and reload. Sessions and workers read it a moment later.
    pub fn set(&self, name: &str, value: &str) {
        let mut client = self.connect("postgres");
        client
            .batch_execute(&format!(
                "ALTER SYSTEM SET {name} = {}",
                quote_literal(value)
            ))
            .unwrap();
        client.batch_execute("SELECT pg_reload_conf()").unwrap();
    }

    /// The worker of a database, if one runs.
    pub fn worker_pid(&self, database: &str) -> Option<i32> {
        // While the server recovers there is none.
        self.try_connect("postgres")
            .ok()?
            .query_opt(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = $1 AND datname = $2",
                &[&WORKER_BACKEND_TYPE, &database],
            )
            .ok()?
            .map(|row| row.get(0))
    }

    pub fn wait_for_worker(&self, database: &str) -> i32 {
        let pid = try_until(LONG, || self.worker_pid(database));
        pid.unwrap_or_else(|| panic!("no worker in {database}:\n{}", self.log_tail()))
    }

    pub fn log(&self) -> String {
        fs::read(self.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of the server's log\n{}\n---", self.log_tail());
        }
        self.janitor.clean_up();
        if let Some(mut child) = self.server.lock().unwrap().take() {
            child.wait().unwrap();
        }
    }
}

/// A data directory to copy: `initdb` takes a second, copying does not.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(PathBuf, Janitor)> = OnceLock::new();
    let (data, _) = TEMPLATE.get_or_init(|| {
        let dir = tempfile::Builder::new()
            .prefix("integration-template-")
            .tempdir()
            .unwrap()
            .keep();
        give_to_server_user(&dir);
        let janitor = Janitor::watch(&dir);
        let data = dir.join("data");
        initialise(&data);
        (data, janitor)
    });
    data
}

/// Makes a data directory, with a system identifier of its own.
fn initialise(data: &Path) {
    run(as_server_user(bin("initdb"))
        .args([
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--pgdata",
        ])
        .arg(data));
}

/// A file the server can read, holding a secret for `file:/path`.
pub fn secret_file(cluster: &Cluster, name: &str, secret: &str) -> PathBuf {
    let path = cluster.dir.join(name);
    File::create(&path)
        .unwrap()
        .write_all(secret.as_bytes())
        .unwrap();
    give_to_server_user(&path);
    path
}
