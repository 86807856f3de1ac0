//! A primary, a replica and a Sentinel that replaces one by the other.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    binaries,
    guardian::{End, guardian},
    ports::free_port,
    process::Process,
    redis::{Redis, RedisOptions},
    resp::Connection,
    wait::{PATIENCE, eventually},
};

/// The name of the primary in Sentinel.
pub const SERVICE: &str = "tidegate";

/// One Sentinel (quorum 1) over two servers with `appendfsync everysec`.
pub struct Sentinel {
    port: u16,
    process: Process,
    servers: [Redis; 2],
}

impl Sentinel {
    /// # Panics
    /// When the replica does not follow or the Sentinel does not see it.
    pub async fn start() -> Self {
        let primary = Redis::start_with(RedisOptions {
            appendfsync: "everysec",
            ..RedisOptions::default()
        })
        .await;
        let replica = Redis::start_with(RedisOptions {
            appendfsync: "everysec",
            replica_of: Some(primary.port()),
            ..RedisOptions::default()
        })
        .await;
        eventually("the replica follows", PATIENCE, || async {
            (replica.info("master_link_status").await? == "up").then_some(())
        })
        .await;
        let port = free_port();
        let process = spawn(port, primary.port());
        let sentinel = Self {
            port,
            process,
            servers: [primary, replica],
        };
        eventually("the Sentinel knows both", PATIENCE, || async {
            let mut connection = Connection::open(port).await.ok()?;
            let replicas = connection
                .call(&["SENTINEL", "REPLICAS", SERVICE])
                .await
                .ok()?;
            (replicas.list().len() == 1).then_some(())
        })
        .await;
        sentinel
    }

    /// `redis-sentinel://127.0.0.1:<port>?sentinelServiceName=tidegate`
    pub fn url(&self) -> String {
        format!(
            "redis-sentinel://127.0.0.1:{}?sentinelServiceName={SERVICE}",
            self.port
        )
    }

    /// Which of the two is the primary by the Sentinel's word.
    pub async fn primary(&self) -> Option<&Redis> {
        let mut connection = Connection::open(self.port).await.ok()?;
        let address = connection
            .call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])
            .await
            .ok()?;
        let port: u16 = address.list().get(1)?.text()?.parse().ok()?;
        self.servers.iter().find(|server| server.port() == port)
    }

    /// Kills the primary and waits until the other one took over and accepts writes.
    ///
    /// # Panics
    /// When nobody takes over.
    pub async fn fail_over(&self) -> &Redis {
        let old = self.primary().await.expect("there is a primary");
        old.kill9();
        eventually("the replica takes over", PATIENCE, || async {
            let new = self
                .primary()
                .await
                .filter(|new| new.port() != old.port())?;
            (new.info("role").await? == "master").then_some(new)
        })
        .await
    }

    /// Both servers, in the order they were started.
    pub fn servers(&self) -> &[Redis; 2] {
        &self.servers
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn spawn(port: u16, primary: u16) -> Process {
    let folder: PathBuf = guardian().folder("sentinel");
    let conf = folder.join("sentinel.conf");
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {folder}\n\
         sentinel monitor {SERVICE} 127.0.0.1 {primary} 1\n\
         sentinel down-after-milliseconds {SERVICE} 2000\n\
         sentinel failover-timeout {SERVICE} 10000\n",
        folder = folder.display()
    );
    fs::write(&conf, text).expect("the temporary folder is writable");
    let mut command = Command::new(binaries::need("redis-server"));
    command.arg(&conf).arg("--sentinel").current_dir(&folder);
    Process::spawn(
        "redis-sentinel",
        command,
        &folder.join("sentinel.log"),
        End::Kill,
    )
    .expect("redis-server can be started")
}
