//! A private Postgres. One serves all tests of a process; each test has a database of its own.

use std::{
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    binaries,
    guardian::{End, guardian},
    process::Process,
    wait::{PATIENCE, eventually},
};

/// The role everything runs as.
pub const ROLE: &str = "tidegate";

/// The port in the name of the unix socket; without TCP nobody else can be in the way.
const SOCKET_PORT: u16 = 5432;

/// A running server.
pub struct Postgres {
    folder: PathBuf,
    port: Option<u16>,
    durable: bool,
    account: Option<Account>,
    process: Mutex<Arc<Process>>,
    databases: AtomicU32,
}

/// The user the server runs as where we are root, which Postgres refuses.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

static SHARED: OnceLock<Arc<Postgres>> = OnceLock::new();
static STARTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Postgres {
    /// The server all tests of this process share, started at the first call.
    pub async fn shared() -> Arc<Self> {
        let _turn = STARTING.lock().await;
        if let Some(server) = SHARED.get() {
            return server.clone();
        }
        let server = Arc::new(Self::start().await);
        SHARED.get_or_init(|| server).clone()
    }

    /// A server of one's own, to be stopped and killed. On a unix socket only, so it needs no port.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Self {
        let folder = guardian().folder("pg");
        Self::open(&folder, None, false)
            .await
            .unwrap_or_else(|error| panic!("postgres does not start: {error}"))
    }

    /// A server with its data in this folder, created at the first time; with a port, it listens on
    /// 127.0.0.1, too. `durable` keeps fsync on.
    pub async fn open(folder: &Path, port: Option<u16>, durable: bool) -> Result<Self, String> {
        let account = account()?;
        if let Some(Account { uid, gid }) = account {
            chown(folder, Some(uid), Some(gid)).map_err(|error| error.to_string())?;
        }
        if !folder.join("data/PG_VERSION").exists() {
            init(folder, account)?;
        }
        let process = spawn(folder, port, durable, account).map_err(|error| error.to_string())?;
        let server = Self {
            folder: folder.to_path_buf(),
            port,
            durable,
            account,
            process: Mutex::new(Arc::new(process)),
            databases: AtomicU32::new(0),
        };
        server.until_up().await?;
        Ok(server)
    }

    /// A new empty database.
    ///
    /// # Panics
    /// When Postgres refuses.
    pub async fn database(self: &Arc<Self>, hint: &str) -> Database {
        let n = self.databases.fetch_add(1, Ordering::Relaxed);
        let clean: String = hint
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(30)
            .collect();
        let name = format!("t{n}_{}", clean.to_lowercase());
        self.create(&name).await;
        Database {
            server: self.clone(),
            name,
        }
    }

    /// Creates a database unless it is there.
    pub async fn create(&self, name: &str) {
        let known = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
        if self
            .query("postgres", &known)
            .await
            .expect("postgres answers")
            .is_empty()
        {
            self.query("postgres", &format!("CREATE DATABASE {name}"))
                .await
                .expect("a database can be created");
        }
    }

    /// Where a database is.
    pub fn url(&self, database: &str) -> String {
        match self.port {
            Some(port) => format!("postgres://{ROLE}@127.0.0.1:{port}/{database}"),
            None => format!(
                "postgres://{ROLE}@localhost/{database}?host={}&port={SOCKET_PORT}",
                self.folder.display()
            ),
        }
    }

    /// Runs SQL through psql; rows of columns as text.
    pub async fn query(&self, database: &str, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let mut command = tokio::process::Command::new(binaries::need("psql"));
        command.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-F",
            "\x1f",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            ROLE,
            "-d",
            database,
            "-c",
            sql,
        ]);
        command
            .arg("-h")
            .arg(&self.folder)
            .arg("-p")
            .arg(self.port.unwrap_or(SOCKET_PORT).to_string());
        command.env("PGCONNECT_TIMEOUT", "5").stdin(Stdio::null());
        let output: Output = command.output().await.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text
            .lines()
            .map(|line| line.split('\x1f').map(str::to_owned).collect())
            .collect())
    }

    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Immediate shutdown: like a crash, but it leaves no shared memory behind.
    pub async fn crash(&self) {
        self.process().signal("QUIT");
        self.process().wait(PATIENCE).await;
    }

    /// Fast, clean shutdown.
    pub async fn stop(&self) {
        self.process().signal("INT");
        self.process().wait(PATIENCE).await;
    }

    /// Starts it again after [`Self::crash`] or [`Self::stop`].
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn restart(&self) {
        let process = spawn(&self.folder, self.port, self.durable, self.account)
            .expect("postgres can be started again");
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(process);
        self.until_up()
            .await
            .unwrap_or_else(|error| panic!("postgres does not start again: {error}"));
    }

    fn process(&self) -> Arc<Process> {
        self.process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn until_up(&self) -> Result<(), String> {
        let process = self.process();
        eventually("postgres answers", PATIENCE, || async {
            if process.exited().is_some() {
                return Some(Err(process.log()));
            }
            self.query("postgres", "SELECT 1")
                .await
                .is_ok()
                .then_some(Ok(()))
        })
        .await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Not SIGKILL: that would leave its shared memory behind.
        let process = self.process();
        process.signal("QUIT");
        for _ in 0..100 {
            if process.exited().is_some() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// A database of a test. It goes with its server.
#[derive(Clone)]
pub struct Database {
    server: Arc<Postgres>,
    name: String,
}

impl Database {
    /// On the server all tests share.
    pub async fn create(hint: &str) -> Self {
        Postgres::shared().await.database(hint).await
    }

    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    pub fn server(&self) -> &Arc<Postgres> {
        &self.server
    }

    /// Rows of columns as text.
    pub async fn try_query(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        self.server.query(&self.name, sql).await
    }

    /// # Panics
    /// When Postgres refuses.
    pub async fn query(&self, sql: &str) -> Vec<Vec<String>> {
        self.try_query(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The number a `SELECT count(*)` gives.
    ///
    /// # Panics
    /// When the answer is not a number.
    pub async fn count(&self, sql: &str) -> u64 {
        self.query(sql).await[0][0]
            .parse()
            .expect("a count is a number")
    }
}

/// `None` when we are not root and can run Postgres ourselves.
fn account() -> Result<Option<Account>, String> {
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let (Ok(uid), Ok(gid)) = (id(&["-u", name]), id(&["-g", name])) {
            return Ok(Some(Account { uid, gid }));
        }
    }
    Err(
        "postgres refuses to run as root, and there is neither a user postgres nor nobody"
            .to_owned(),
    )
}

fn id(arguments: &[&str]) -> Result<u32, String> {
    let output = Command::new("id")
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| format!("id {arguments:?} gave no number"))
}

/// True if the account Postgres runs as can reach the folder.
pub fn can_serve_from(folder: &Path) -> bool {
    match account() {
        Ok(Some(Account { uid, gid })) => {
            let test = Command::new("test")
                .arg("-x")
                .arg(folder)
                .uid(uid)
                .gid(gid)
                .current_dir("/")
                .status();
            test.is_ok_and(|status| status.success())
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

fn as_account(command: &mut Command, account: Option<Account>) {
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
}

fn init(folder: &Path, account: Option<Account>) -> Result<(), String> {
    let mut command = Command::new(binaries::need("initdb"));
    command.arg("-D").arg(folder.join("data"));
    command.args([
        "-U",
        ROLE,
        "-A",
        "trust",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C",
    ]);
    command.current_dir(folder).stdin(Stdio::null());
    as_account(&mut command, account);
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn spawn(
    folder: &Path,
    port: Option<u16>,
    durable: bool,
    account: Option<Account>,
) -> std::io::Result<Process> {
    let mut command = Command::new(binaries::need("postgres"));
    command
        .arg("-D")
        .arg(folder.join("data"))
        .current_dir(folder);
    let mut set = |name: &str, value: &str| {
        command.arg("-c").arg(format!("{name}={value}"));
    };
    set("unix_socket_directories", &folder.display().to_string());
    set("max_connections", "400");
    set("shared_buffers", "64MB");
    set("autovacuum_naptime", "10min");
    match port {
        Some(_) => set("listen_addresses", "127.0.0.1"),
        None => set("listen_addresses", ""),
    }
    set("port", &port.unwrap_or(SOCKET_PORT).to_string());
    if !durable {
        // Commits still reach the page cache, so they survive a crash of the process.
        for name in ["fsync", "full_page_writes"] {
            set(name, "off");
        }
    }
    as_account(&mut command, account);
    // The log is opened by us, so a server of another user can write it.
    let end = if durable { End::Interrupt } else { End::Quit };
    Process::spawn("postgres", command, &folder.join("postgres.log"), end)
}
