//! A gateway or a worker as a process, found by the ports it writes down.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::{
    binaries,
    guardian::{End, guardian},
    process::Process,
    rest::{Answer, Rest},
    shims::{HostClock, preload},
    wait::{PATIENCE, eventually},
};

/// Settings as environment variables, by their full names.
pub type Settings = BTreeMap<String, String>;

/// Where a node listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// The public listener; a worker has none.
    pub http: Option<SocketAddr>,
    pub ops: SocketAddr,
}

/// A process of ours, which can be killed and started again.
pub struct Node {
    binary: &'static str,
    name: String,
    folder: PathBuf,
    settings: Settings,
    clock: Option<HostClock>,
    running: Mutex<Option<Running>>,
}

#[derive(Clone)]
struct Running {
    process: Arc<Process>,
    ports: Option<Ports>,
}

impl Node {
    /// Describes a node; it does not run yet.
    pub fn new(binary: &'static str, name: &str, settings: Settings) -> Self {
        Self {
            binary,
            name: name.to_owned(),
            folder: guardian().folder(name),
            settings,
            clock: None,
            running: Mutex::new(None),
        }
    }

    /// Gives it another time of day than this host's, from its next start on.
    pub fn set_clock(&mut self, clock: HostClock) {
        self.clock = Some(clock);
    }

    /// Starts the process and does not wait for anything.
    ///
    /// # Panics
    /// When the program is missing.
    pub fn launch(&self) {
        let ports = self.port_file();
        let _ = fs::remove_file(&ports);
        let mut command = Command::new(binaries::product(self.binary));
        clean_environment(&mut command);
        command
            .envs(&self.settings)
            .env("TIDEGATE_PORT_FILE", &ports)
            .current_dir(&self.folder);
        let clock: Vec<_> = self.clock.iter().map(HostClock::preload).collect();
        preload(&mut command, &clock);
        let process = Process::spawn(&self.name, command, &self.log_file(), End::Kill)
            .expect("our own program can be started");
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Running {
            process: Arc::new(process),
            ports: None,
        });
    }

    /// Starts it and waits until it listens.
    pub async fn start(&self) {
        self.launch();
        self.until_listening().await;
    }

    /// Waits for the file with its ports.
    ///
    /// # Panics
    /// When it ends instead, with its log.
    pub async fn until_listening(&self) -> Ports {
        let process = self.process();
        let ports = eventually(&format!("{} listens", self.name), PATIENCE, || async {
            if let Some(status) = process.exited() {
                panic!(
                    "{} ended with {status} instead of listening:\n{}",
                    self.name,
                    process.log()
                );
            }
            read_ports(&self.port_file())
        })
        .await;
        if let Some(running) = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            running.ports = Some(ports);
        }
        ports
    }

    /// Waits until `/ready` says yes.
    pub async fn until_ready(&self) {
        eventually(&format!("{} is ready", self.name), PATIENCE * 2, || async {
            (self.ops_get("/ready").await?.status == 200).then_some(())
        })
        .await;
    }

    /// An answer of the ops listener, if there is one.
    pub async fn ops_get(&self, path: &str) -> Option<Answer> {
        Rest::new(format!("http://{}", self.ports().ops))
            .get(path)
            .await
            .ok()
    }

    /// The value of a sample in `/metrics`, summed over its labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = Rest::new(format!("http://{}", self.ports().ops))
            .get_text("/metrics")
            .await
            .ok()?;
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
        });
        samples
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .and_then(|value| value.parse::<f64>().ok())
            })
            .sum()
    }

    /// # Panics
    /// When it does not listen.
    pub fn ports(&self) -> Ports {
        let guard = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        guard
            .as_ref()
            .and_then(|running| running.ports)
            .unwrap_or_else(|| panic!("{} does not listen", self.name))
    }

    /// The public address of a gateway that may be down at the moment.
    pub fn try_address(&self) -> Option<SocketAddr> {
        let guard = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref()?.ports?.http
    }

    /// The public address of a gateway.
    pub fn address(&self) -> SocketAddr {
        self.ports().http.expect("a gateway has a public listener")
    }

    pub fn rest(&self) -> Rest {
        Rest::new(format!("http://{}", self.address()))
    }

    /// # Panics
    /// When it was never started.
    pub fn process(&self) -> Arc<Process> {
        let guard = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match guard.as_ref() {
            Some(running) => running.process.clone(),
            None => panic!("{} was never started", self.name),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn kill9(&self) {
        self.process().kill9();
    }

    /// kill -9, then a new process on new ports.
    pub async fn restart(&self) {
        self.kill9();
        self.start().await;
        self.until_ready().await;
    }

    /// SIGTERM and a clean end.
    ///
    /// # Panics
    /// When it does not end, or not with success.
    pub async fn stop(&self, deadline: Duration) {
        let status = self.process().stop(deadline).await;
        assert!(
            status.success(),
            "{} ended with {status}:\n{}",
            self.name,
            self.log()
        );
    }

    pub fn log(&self) -> String {
        fs::read(self.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn port_file(&self) -> PathBuf {
        self.folder.join("ports.json")
    }

    /// Keeps the log for people to read.
    pub(crate) fn keep_log(&self, folder: &Path) {
        let _ = fs::copy(self.log_file(), folder.join(format!("{}.log", self.name)));
    }
}

/// Runs a program of ours to its end: exit code and everything it wrote.
pub async fn run_to_end(
    binary: &str,
    arguments: &[&str],
    settings: &Settings,
) -> (Option<i32>, String) {
    run_with_input(binary, arguments, settings, "").await
}

/// The same with something on its standard input.
///
/// # Panics
/// When it cannot be started or does not end.
pub async fn run_with_input(
    binary: &str,
    arguments: &[&str],
    settings: &Settings,
    input: &str,
) -> (Option<i32>, String) {
    let mut command = Command::new(binaries::product(binary));
    clean_environment(&mut command);
    command
        .args(arguments)
        .envs(settings)
        .current_dir(guardian().root());
    let mut command = tokio::process::Command::from(command);
    command
        .kill_on_drop(true)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("our program can be started");
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing may have ended already.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("{binary} {arguments:?} does not end"))
        .expect("our program can be waited for");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Settings of the person who runs the tests must not reach our processes.
pub fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("TIDEGATE_") || name.starts_with("PG") {
            command.env_remove(name);
        }
    }
}

fn read_ports(file: &Path) -> Option<Ports> {
    let ports: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let address = |name: &str| ports[name].as_str().and_then(|text| text.parse().ok());
    Some(Ports {
        http: address("http"),
        ops: address("ops")?,
    })
}
