//! `make run`: two gateways and a worker on private servers of Redis and Postgres whose data
//! stays in `.run/`, until Ctrl-C.
//!
//! Only for a developer's machine: passwords are printed, and Postgres trusts everybody on it.

#![allow(clippy::disallowed_methods)] // A tool of developers, not a product.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use testkit::{
    Postgres, Process, Redis, RedisOptions, binaries,
    guardian::End,
    node::{Settings, clean_environment},
    ports,
    postgres::can_serve_from,
    rest::Rest,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

/// Variables that move a listener, their defaults, and which process has it.
const PORTS: [(&str, u16, &str); 5] = [
    ("TIDEGATE_HTTP_PORT_1", 8080, "gateway 1"),
    ("TIDEGATE_HTTP_PORT_2", 8081, "gateway 2"),
    ("TIDEGATE_OPS_PORT_1", 9090, "gateway 1, metrics and health"),
    ("TIDEGATE_OPS_PORT_2", 9091, "gateway 2, metrics and health"),
    (
        "TIDEGATE_WORKER_OPS_PORT",
        9190,
        "worker, metrics and health",
    ),
];

/// How long what was killed stays away: long enough to see what its absence does.
const RESTART_PAUSE: Duration = Duration::from_secs(5);
const DATABASE: &str = "tidegate";
const USERS: [(&str, &str); 2] = [("alice", "alice-dev-password"), ("bob", "bob-dev-password")];

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nmake run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let ports = listeners()?;
    let home = std::env::current_dir()?.join(".run");
    fs::create_dir_all(&home)?;
    let _lock = Lock::take(&home)?;
    let mut stack = Stack::default();
    let done = tokio::select! {
        done = stack.up(&home, &ports) => done,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
    };
    if done.is_ok() {
        println!(
            "\n  Ctrl-C stops everything; the data stays in {}\n",
            home.display()
        );
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            failed = stack.keep_up() => {
                if let Err(error) = failed {
                    eprintln!("\n{error:#}");
                }
            }
        }
    }
    println!("\nstopping");
    tokio::select! {
        () = stack.down() => {}
        _ = interrupt.recv() => eprintln!("killed"),
    }
    done
}

/// Each port is free, or the error says which variable moves it.
fn listeners() -> Result<[u16; 5]> {
    let mut found = [0; 5];
    for (place, (variable, default, what)) in found.iter_mut().zip(PORTS) {
        *place = match std::env::var(variable) {
            Ok(text) => text
                .parse()
                .with_context(|| format!("{variable} is no port: {text}"))?,
            Err(_) => default,
        };
        ensure!(
            TcpListener::bind(("0.0.0.0", *place)).is_ok(),
            "port {place} ({what}) is taken: set {variable} to a free one, as in `{variable}={} make run`",
            u32::from(*place) + 1000
        );
    }
    Ok(found)
}

/// Everything that runs, in the order it was started.
#[derive(Default)]
struct Stack {
    redis: Option<Redis>,
    postgres: Option<Postgres>,
    worker: Option<Process>,
    gateways: Vec<Process>,
    /// How each of our processes is started again, by its name.
    settings: BTreeMap<String, Settings>,
    logs: PathBuf,
}

impl Stack {
    async fn up(&mut self, home: &Path, ports: &[u16; 5]) -> Result<()> {
        let (redis, database) = (self.redis(home).await?, self.database(home).await?);
        let secret = secret_file(home)?;
        let logs = home.join("logs");
        fs::create_dir_all(&logs)?;
        let mut settings: Settings = std::env::vars()
            .filter(|(name, _)| is_setting(name))
            .collect();
        settings.insert("TIDEGATE_REDIS_URL".to_owned(), redis.clone());
        settings.insert("TIDEGATE_DATABASE_URL".to_owned(), database.clone());
        settings.insert(
            "TIDEGATE_AUTH__SECRET_FILE".to_owned(),
            secret.display().to_string(),
        );
        // Nothing balances load here, so nobody has to notice before the sockets go.
        default(&mut settings, "TIDEGATE_DRAIN__LB_GRACE", "0s".to_owned());
        default(&mut settings, "TIDEGATE_DRAIN__WINDOW", "1s".to_owned());

        let (code, output) = testkit::node::run_to_end("gateway", &["migrate"], &settings).await;
        ensure!(code == Some(0), "the migration failed:\n{output}");

        let [http_1, http_2, ops_1, ops_2, worker_ops] = *ports;
        for (name, http, ops) in [("gateway-1", http_1, ops_1), ("gateway-2", http_2, ops_2)] {
            let mut settings = settings.clone();
            // The console of one node may open sockets on the other.
            let origins = [http_1, http_2]
                .map(|port| format!("http://localhost:{port},http://127.0.0.1:{port}"));
            default(
                &mut settings,
                "TIDEGATE_HTTP__ALLOWED_ORIGINS",
                origins.join(","),
            );
            let nodes = [http_1, http_2].map(|port| format!("http://localhost:{port}"));
            default(&mut settings, "TIDEGATE_HTTP__NODES", nodes.join(","));
            settings.insert(
                "TIDEGATE_HTTP__LISTEN".to_owned(),
                format!("0.0.0.0:{http}"),
            );
            settings.insert("TIDEGATE_OPS__LISTEN".to_owned(), format!("0.0.0.0:{ops}"));
            settings.insert("TIDEGATE_NODE__ID".to_owned(), name.to_owned());
            self.gateways
                .push(start("gateway", name, &settings, &logs)?);
            self.settings.insert(name.to_owned(), settings);
        }
        settings.insert(
            "TIDEGATE_OPS__LISTEN".to_owned(),
            format!("0.0.0.0:{worker_ops}"),
        );
        settings.insert("TIDEGATE_NODE__ID".to_owned(), "worker-1".to_owned());
        self.worker = Some(start("worker", "worker-1", &settings, &logs)?);
        self.settings.insert("worker-1".to_owned(), settings);
        self.logs = logs;

        let started = self.gateways.iter().zip([ops_1, ops_2]);
        for (process, ops) in started.chain(self.worker.iter().zip([worker_ops])) {
            until_ready(process, ops).await?;
        }
        self.tell(ports, &redis, &database, home).await
    }

    /// The Redis of the environment, or a private one.
    async fn redis(&mut self, home: &Path) -> Result<String> {
        if let Ok(url) = std::env::var("TIDEGATE_REDIS_URL") {
            return Ok(url);
        }
        need(&["redis-server"])?;
        let folder = home.join("redis");
        fs::create_dir_all(&folder)?;
        let _ = fs::remove_file(folder.join("redis.log"));
        let port = kept_port(&folder)?;
        let server = Redis::open(port, &folder, RedisOptions::default(), End::Term).await;
        let server = server
            .map_err(anyhow::Error::msg)
            .context("redis-server does not start")?;
        let url = server.url();
        self.redis = Some(server);
        Ok(url)
    }

    /// The database of the environment, or one on a private server.
    async fn database(&mut self, home: &Path) -> Result<String> {
        if let Ok(url) = std::env::var("TIDEGATE_DATABASE_URL") {
            return Ok(url);
        }
        need(&["postgres", "initdb", "psql"])?;
        let folder = postgres_folder(home)?;
        let _ = fs::remove_file(folder.join("postgres.log"));
        let port = kept_port(&folder)?;
        let server = Postgres::open(&folder, Some(port), true).await;
        let server = server
            .map_err(anyhow::Error::msg)
            .context("postgres does not start")?;
        server.create(DATABASE).await;
        let url = server.url(DATABASE);
        self.postgres = Some(server);
        Ok(url)
    }

    async fn tell(&self, ports: &[u16; 5], redis: &str, database: &str, home: &Path) -> Result<()> {
        let [http_1, http_2, ops_1, ops_2, worker_ops] = *ports;
        let pid = |process: Option<&Process>| process.map_or(0, Process::pid);
        let of =
            |pid: Option<u32>| pid.map_or_else(|| "yours".to_owned(), |pid| format!("pid {pid}"));
        let mut text = format!(
            "
Tidegate is running.

  page       http://localhost:{http_1}/  and  http://localhost:{http_2}/
  gateway 1  pid {}, metrics and health on http://localhost:{ops_1}
  gateway 2  pid {}, metrics and health on http://localhost:{ops_2}
  worker     pid {}, metrics and health on http://localhost:{worker_ops}
  Redis      {redis}  ({})
  Postgres   {database}  ({})
  logs       {}
  secret     {}
",
            pid(self.gateways.first()),
            pid(self.gateways.last()),
            pid(self.worker.as_ref()),
            of(self.redis.as_ref().map(Redis::pid)),
            of(self.postgres.as_ref().map(Postgres::pid)),
            home.join("logs").display(),
            home.join("jwt-secret").display(),
        );
        text += &logins(http_1, http_2).await;
        print!("{text}");
        std::io::stdout().flush()?;
        Ok(())
    }

    /// Starts what ends by itself or was killed again, as Kubernetes would: so that one can
    /// watch clients go to the other node and come back.
    async fn keep_up(&mut self) -> Result<()> {
        loop {
            tokio::time::sleep(RESTART_PAUSE).await;
            for process in self.gateways.iter_mut().chain(&mut self.worker) {
                if process.exited().is_none() {
                    continue;
                }
                let name = process.name().to_owned();
                let binary = if name.starts_with("gateway") {
                    "gateway"
                } else {
                    "worker"
                };
                *process = start(binary, &name, &self.settings[&name], &self.logs)?;
                println!(
                    "  {name} had ended; started again with pid {}",
                    process.pid()
                );
            }
        }
    }

    /// Gateways first, so that the worker can still write what they accepted.
    async fn down(&mut self) {
        for gateway in &self.gateways {
            gateway.signal("TERM");
        }
        for gateway in self.gateways.drain(..) {
            ended(&gateway, Duration::from_secs(45)).await;
        }
        if let Some(worker) = self.worker.take() {
            worker.signal("TERM");
            ended(&worker, Duration::from_secs(20)).await;
        }
        if let Some(postgres) = self.postgres.take() {
            postgres.stop().await;
            println!("  postgres stopped");
        }
        if let Some(redis) = self.redis.take() {
            redis.stop().await;
            println!("  redis-server stopped");
        }
    }
}

/// A setting of the product, not one of ours.
fn is_setting(name: &str) -> bool {
    name.starts_with("TIDEGATE_") && name.contains("__")
}

/// What the environment says goes first.
fn default(settings: &mut Settings, name: &str, value: String) {
    settings.entry(name.to_owned()).or_insert(value);
}

fn start(binary: &str, name: &str, settings: &Settings, logs: &Path) -> Result<Process> {
    let log = logs.join(format!("{name}.log"));
    let _ = fs::remove_file(&log);
    let mut command = std::process::Command::new(binaries::product(binary));
    clean_environment(&mut command);
    command.envs(settings);
    Process::spawn(name, command, &log, End::Term)
        .with_context(|| format!("{name} cannot be started"))
}

async fn ended(process: &Process, patience: Duration) {
    let end = Instant::now() + patience;
    while process.exited().is_none() {
        if Instant::now() > end {
            println!("  {} did not stop in time and is killed", process.name());
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("  {} stopped", process.name());
}

async fn until_ready(process: &Process, ops: u16) -> Result<()> {
    let rest = Rest::new(format!("http://127.0.0.1:{ops}"));
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let answer = rest.get("/ready").await.ok();
        if answer.as_ref().is_some_and(|answer| answer.status == 200) {
            return Ok(());
        }
        if process.exited().is_some() {
            bail!(
                "{} ended instead of getting ready:\n{}",
                process.name(),
                process.log()
            );
        }
        if Instant::now() > end {
            let why = answer.map_or_else(
                || "it does not answer".to_owned(),
                |answer| answer.body.to_string(),
            );
            bail!(
                "{} is not ready after a minute: {why}\n{}",
                process.name(),
                process.log()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Two users to try things with, and lines to try them by.
async fn logins(http_1: u16, http_2: u16) -> String {
    let rest = Rest::new(format!("http://127.0.0.1:{http_1}"));
    let mut ids = Vec::new();
    for (name, password) in USERS {
        // Taken (409) is fine: from an earlier run. Closed (403) leaves no users to print.
        let _ = rest.register(name, password).await;
        if let Ok(answer) = rest.login(name, password).await {
            ids.extend(answer.body["userId"].as_str().map(str::to_owned));
        }
    }
    let [_, bob] = ids.as_slice() else {
        return "\n  registration is closed: no users to try it with\n".to_owned();
    };
    let [(alice_name, alice_password), (bob_name, bob_password)] = USERS;
    let command = format!(
        r#"{{"type":"command.create","id":"'$(date +%s%N)'","payload":{{"commandType":"message","content":"hello","broadcast":"user","targetUser":"{bob}","categories":[]}}}}"#
    );
    format!(
        "\n  users      {alice_name} / {alice_password}   and   {bob_name} / {bob_password}\n\n\
         Bob listens on one node, Alice sends on the other:\n\n  \
         login() {{ curl -s http://localhost:{http_1}/api/v1/auth/login -H 'content-type: application/json' \
         -d \"{{\\\"username\\\":\\\"$1\\\",\\\"password\\\":\\\"$1-dev-password\\\"}}\" | sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/'; }}\n  \
         websocat \"ws://localhost:{http_2}/api/ws?token=$(login bob)\"\n  \
         echo '{command}' | websocat -n1 \"ws://localhost:{http_1}/api/ws?token=$(login alice)\"\n"
    )
}

/// Made once; only its place is printed.
fn secret_file(home: &Path) -> Result<PathBuf> {
    let file = home.join("jwt-secret");
    if !file.exists() {
        let mut random = [0_u8; 48];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let secret = random.map(|byte| format!("{byte:02x}")).concat();
        fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)?
            .write_all(secret.as_bytes())?;
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Inside of `.run` if the account of Postgres can get there; as root in a closed home it cannot.
fn postgres_folder(home: &Path) -> Result<PathBuf> {
    let folder = home.join("postgres");
    fs::create_dir_all(&folder)?;
    if can_serve_from(&folder) {
        return Ok(folder);
    }
    let flat: String = home
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let elsewhere = PathBuf::from(format!("/var/tmp/tidegate{flat}"));
    fs::create_dir_all(&elsewhere)?;
    println!(
        "the user postgres cannot reach {}: its data goes to {}",
        folder.display(),
        elsewhere.display()
    );
    Ok(elsewhere)
}

/// The port of the last run if it is still free, so that printed URLs stay true.
fn kept_port(folder: &Path) -> Result<u16> {
    let file = folder.join("port");
    let kept = fs::read_to_string(&file)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let port = kept
        .filter(|port| ports::is_free(*port))
        .unwrap_or_else(ports::free_port);
    fs::write(&file, port.to_string())?;
    Ok(port)
}

fn need(programs: &[&str]) -> Result<()> {
    for program in programs {
        ensure!(
            binaries::find(program).is_some(),
            "{program} is not installed: run scripts/install-servers"
        );
    }
    Ok(())
}

/// One `make run` per checkout.
struct Lock {
    _file: fs::File,
}

impl Lock {
    fn take(home: &Path) -> Result<Self> {
        let file = fs::File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(home.join("lock"))?;
        if file.try_lock().is_err() {
            bail!("another `make run` uses {}", home.display());
        }
        Ok(Self { _file: file })
    }
}
