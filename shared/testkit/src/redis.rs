//! A private `redis-server` whose data survives kill and restart.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use crate::{
    binaries,
    guardian::{End, guardian},
    ports::free_port,
    process::Process,
    resp::{Connection, Reply},
    shims::{Disk, HostClock, preload},
    wait::{PATIENCE, eventually},
};

/// How a server is configured. The default is what a deployment with one Redis should have.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `appendfsync`: `always`, `everysec`, or `no`.
    pub appendfsync: &'static str,
    /// The port of the primary this one replicates.
    pub replica_of: Option<u16>,
    /// Cluster mode.
    pub cluster: bool,
    /// For [`Redis::lose_power`].
    pub disk: Option<Disk>,
    /// Another time of day than this host's.
    pub clock: Option<HostClock>,
    /// Further directives, as in redis.conf: name and value.
    pub extra: Vec<(String, String)>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            appendfsync: "always",
            replica_of: None,
            cluster: false,
            disk: None,
            clock: None,
            extra: Vec::new(),
        }
    }
}

impl RedisOptions {
    /// Adds a directive, as in redis.conf.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.extra.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running server on a port of 127.0.0.1.
pub struct Redis {
    port: u16,
    folder: PathBuf,
    options: RedisOptions,
    end: End,
    process: Mutex<std::sync::Arc<Process>>,
}

impl Redis {
    /// A standalone server with `appendfsync always`.
    pub async fn start() -> Self {
        Self::start_with(RedisOptions::default()).await
    }

    /// A server in a folder that goes with this process.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_with(options: RedisOptions) -> Self {
        let mut complaint = String::new();
        // Another process may take the port between the check and the start.
        for _ in 0..5 {
            let folder = guardian().folder("redis");
            match Self::open(free_port(), &folder, options.clone(), End::Kill).await {
                Ok(server) => return server,
                Err(log) => complaint = log,
            }
        }
        panic!("redis-server does not start: {complaint}");
    }

    /// A server on this port with its data in this folder. On failure: what it logged.
    pub async fn open(
        port: u16,
        folder: &Path,
        options: RedisOptions,
        end: End,
    ) -> Result<Self, String> {
        let process = spawn(port, folder, &options, end).map_err(|error| error.to_string())?;
        let server = Self {
            port,
            folder: folder.to_path_buf(),
            options,
            end,
            process: Mutex::new(std::sync::Arc::new(process)),
        };
        server.until_up().await?;
        Ok(server)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// One command on a connection of its own.
    pub async fn try_call(&self, parts: &[&str]) -> std::io::Result<Reply> {
        Connection::open(self.port).await?.call(parts).await
    }

    /// The same, for commands that cannot fail.
    ///
    /// # Panics
    /// On an error reply or a lost connection.
    pub async fn call(&self, parts: &[&str]) -> Reply {
        self.try_call(parts)
            .await
            .unwrap_or_else(|error| panic!("redis {parts:?}: {error}"))
    }

    /// A field of INFO.
    pub async fn info(&self, field: &str) -> Option<String> {
        let text = self.try_call(&["INFO"]).await.ok()?.text()?;
        let prefix = format!("{field}:");
        text.lines().find_map(|line| {
            line.strip_prefix(&prefix)
                .map(|value| value.trim().to_owned())
        })
    }

    /// SIGKILL; the data stays.
    pub fn kill9(&self) {
        self.process().kill9();
    }

    /// A power cut: SIGKILL, and whatever was not fsynced is gone. Answers how many bytes.
    ///
    /// # Panics
    /// When the options named no disk.
    pub fn lose_power(&self) -> u64 {
        let disk = self.options.disk.as_ref();
        let disk = disk.expect("a server whose disk is watched");
        self.kill9();
        disk.cut(&self.folder.join("appendonlydir"))
    }

    /// SIGSTOP: it holds its connections and answers nothing.
    pub fn pause(&self) {
        self.process().signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process().signal("CONT");
    }

    /// For a replica: it hears nothing from its master any more, and may still take over from it.
    pub async fn turn_away(&self) {
        // A log-in that no master of ours knows.
        self.call(&["CONFIG", "SET", "masteruser", "nobody", "masterauth", "x"])
            .await;
        self.call(&["CLIENT", "KILL", "TYPE", "master"]).await;
    }

    /// Ends [`Self::turn_away`].
    pub async fn turn_back(&self) {
        self.call(&["CONFIG", "SET", "masteruser", "", "masterauth", ""])
            .await;
    }

    /// Starts it again after [`Self::kill9`], with the data it had.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn restart(&self) {
        self.kill9();
        let process = spawn(self.port, &self.folder, &self.options, self.end)
            .expect("redis-server can be started again");
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = std::sync::Arc::new(process);
        if let Err(log) = self.until_up().await {
            panic!("redis-server does not start again: {log}");
        }
    }

    /// Clean shutdown, for servers whose data is wanted again.
    pub async fn stop(&self) {
        self.process().stop(PATIENCE).await;
    }

    pub(crate) fn process(&self) -> std::sync::Arc<Process> {
        self.process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until the process we started – not another one on that port – answers.
    async fn until_up(&self) -> Result<(), String> {
        let process = self.process();
        let pid = process.pid().to_string();
        eventually("redis-server answers", PATIENCE, || async {
            if process.exited().is_some() {
                return Some(Err(process.log()));
            }
            // A server that loads its data answers INFO, and PING with an error.
            let ours = self.info("process_id").await? == pid;
            (ours && self.try_call(&["PING"]).await.is_ok()).then_some(Ok(()))
        })
        .await
    }
}

fn spawn(port: u16, folder: &Path, options: &RedisOptions, end: End) -> std::io::Result<Process> {
    let mut command = Command::new(binaries::need("redis-server"));
    let port = port.to_string();
    command
        .current_dir(folder)
        .args(["--port", &port, "--bind", "127.0.0.1", "--dir"])
        .arg(folder)
        .args([
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            options.appendfsync,
            "--stream-node-max-bytes",
            "512",
            "--maxmemory-policy",
            "noeviction",
            "--repl-diskless-sync-delay",
            "0",
        ]);
    if let Some(primary) = options.replica_of {
        command.args(["--replicaof", "127.0.0.1", &primary.to_string()]);
    }
    if options.cluster {
        command.args(["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
    }
    let disk = options.disk.iter().map(Disk::preload);
    let clock = options.clock.iter().map(HostClock::preload);
    preload(&mut command, &disk.chain(clock).collect::<Vec<_>>());
    for (name, value) in &options.extra {
        command.arg(format!("--{name}")).arg(value);
    }
    Process::spawn("redis-server", command, &folder.join("redis.log"), end)
}
