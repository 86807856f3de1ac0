//! How fred is set up. Its traps are listed in the evidence: never its cluster mode, never its
//! subscription manager, no silent retries, one connection for each purpose.

use std::{fmt, time::Duration};

use fred::{
    clients::Client,
    error::Error,
    interfaces::ClientLike,
    types::{
        Builder, ClusterHash, CustomCommand, RespVersion, Value,
        config::{Config, ReconnectPolicy, Server, ServerConfig, UnresponsiveConfig},
    },
};

use super::error::{Failure, StoreError};

/// Messages that wait for the subscriber's listener; what overflows is a gap. fred has eight
/// channels of this length in a client and fills them at once: some 50 MB.
const MESSAGES: usize = 65_536;
/// The same for a client that hears nothing but its own connects.
const SIGNALS: usize = 32;

/// A command by its name. fred's own methods for functions and WAIT treat the connection as
/// blocked; this way they are pipelined like any other.
pub(super) fn command(name: &'static str) -> CustomCommand {
    CustomCommand::new_static(name, ClusterHash::Random, false)
}

/// Host and port of a Redis node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<&Server> for Address {
    fn from(server: &Server) -> Self {
        Self {
            host: server.host.to_string(),
            port: server.port,
        }
    }
}

/// What the URL describes.
#[derive(Debug, Clone)]
pub(super) enum Deployment {
    Standalone {
        server: Address,
    },
    Sentinel {
        sentinels: Vec<Address>,
        service: String,
        user: Option<String>,
        password: Option<String>,
    },
    Cluster {
        seeds: Vec<Address>,
    },
}

/// Builds clients for one deployment: credentials and TLS from its URL.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    pub(super) deployment: Deployment,
    pub(super) command_timeout: Duration,
}

impl Connector {
    pub(super) fn new(url: &str, command_timeout: Duration) -> Result<Self, StoreError> {
        let mut config = Config::from_url(url)
            .map_err(|error| StoreError::Misconfigured(format!("redis url: {error}").into()))?;
        let addresses = |hosts: &[Server]| hosts.iter().rev().map(Address::from).collect();
        let deployment = match &config.server {
            ServerConfig::Centralized { server } => Deployment::Standalone {
                server: server.into(),
            },
            ServerConfig::Clustered { hosts, .. } => Deployment::Cluster {
                seeds: addresses(hosts),
            },
            ServerConfig::Sentinel {
                hosts,
                service_name,
                username,
                password,
            } => Deployment::Sentinel {
                sentinels: addresses(hosts),
                service: service_name.clone(),
                user: username.clone(),
                password: password.clone(),
            },
            #[allow(
                unreachable_patterns,
                reason = "fred has more variants with other features"
            )]
            _ => {
                return Err(StoreError::Misconfigured(
                    "redis url: unsupported scheme".into(),
                ));
            }
        };
        if config.database.is_some_and(|number| number != 0) {
            return Err(StoreError::Misconfigured(
                "redis url: channels do not belong to a database; leave the number out".into(),
            ));
        }
        config.version = RespVersion::RESP3;
        Ok(Self {
            config,
            deployment,
            command_timeout,
        })
    }

    /// A client for one node. It reconnects for ever, also if the first attempt fails.
    pub(super) fn client(&self, address: &Address) -> Result<Client, Error> {
        lasting(self.builder(address, self.config.clone(), SIGNALS)).build()
    }

    /// The same, for a client that subscribes.
    pub(super) fn subscriber(&self, address: &Address) -> Result<Client, Error> {
        lasting(self.builder(address, self.config.clone(), MESSAGES)).build()
    }

    /// Of a client for one question, unless made [`lasting`].
    fn builder(&self, address: &Address, mut config: Config, channels: usize) -> Builder {
        config.server = ServerConfig::new_centralized(address.host.clone(), address.port);
        config.fail_fast = true;
        let mut builder = Builder::from_config(config);
        builder
            .with_connection_config(|connection| {
                connection.connection_timeout = Duration::from_secs(2);
                connection.internal_command_timeout = Duration::from_secs(2);
                connection.max_command_attempts = 1; // a retry of fred's would be silent
                connection.tcp.nodelay = Some(true);
                connection.unresponsive = UnresponsiveConfig {
                    max_timeout: Some(Duration::from_secs(3)),
                    interval: Duration::from_millis(500),
                };
            })
            .with_performance_config(|performance| {
                performance.default_command_timeout = self.command_timeout;
                performance.broadcast_channel_capacity = channels;
                performance.max_feed_count = 1000;
            });
        builder
    }

    /// Asks one thing of a server that no client is kept for.
    pub(super) async fn ask(
        &self,
        address: &Address,
        name: &'static str,
        args: &[&str],
    ) -> Result<Value, Failure> {
        let builder = self.builder(address, self.config.clone(), SIGNALS);
        ask_once(builder.build()?, name, args).await
    }

    /// The same of a Sentinel, with the credentials for Sentinels.
    pub(super) async fn ask_sentinel(
        &self,
        address: &Address,
        args: &[&str],
    ) -> Result<Value, Failure> {
        let mut config = self.config.clone();
        if let Deployment::Sentinel { user, password, .. } = &self.deployment {
            config.username.clone_from(user);
            config.password.clone_from(password);
        }
        let builder = self.builder(address, config, SIGNALS);
        ask_once(builder.build()?, "SENTINEL", args).await
    }
}

/// Makes a client that reconnects for ever.
fn lasting(mut builder: Builder) -> Builder {
    builder
        .with_config(|config| config.fail_fast = false)
        .set_policy(ReconnectPolicy::new_exponential(0, 50, 500, 2));
    builder
}

async fn ask_once(client: Client, name: &'static str, args: &[&str]) -> Result<Value, Failure> {
    let args: Vec<Value> = args.iter().map(|arg| Value::from(*arg)).collect();
    let asking = async {
        client.init().await?;
        client.custom::<Value, _>(command(name), args).await
    };
    let answer = tokio::time::timeout(Duration::from_secs(2), asking).await;
    // Not awaited: a stopped server would hold it up.
    let _ = tokio::time::timeout(Duration::from_millis(50), client.quit()).await;
    match answer {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::lost("no connection in time")),
    }
}
