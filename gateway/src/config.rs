//! Settings of the gateway.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use shared::{
    auth::{NamedSecret, TrustedIssuer},
    choice,
    config::{
        ConversationsSettings, LogSettings, NodeSettings, PostgresSettings, Problems,
        RedisSettings, Secret, Size,
    },
    contents::ContentsSettings,
    domain::{Category, Durability},
    section, settings,
};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

section! {
    /// The public listener: sockets, REST and the console page.
    pub struct HttpSettings = "http" {
        /// Where to listen. Port 0 takes a free one.
        listen: SocketAddr = (Ipv4Addr::UNSPECIFIED, 8080).into(),
        /// Origins of browser pages that may open sockets, like `https://app.example.com`; the
        /// request's own host always may. `*` allows any, but then no cookie counts.
        allowed_origins: Vec<String> = Vec::new(),
        /// Base URLs of all gateways, like `https://gw-1.example.com`, for the console page: when its own
        /// is lost it goes on at the next one. `allowed_origins` of each has to name the others. Without
        /// it the page knows only where it came from.
        nodes: Vec<String> = Vec::new(),
        /// Largest body of a REST request.
        max_body: Size = Size::kib(64) => Size::kib(1)..=Size::mib(16),
        /// Addresses and networks of load balancers, like `10.0.0.0/8`: where a request comes from one of
        /// them, the client's address is the last one in `X-Forwarded-For` that is not on this list.
        trusted_proxies: Vec<String> = Vec::new(),
    }
}

section! {
    /// The listener for metrics, probes and the log level. Not for the public.
    pub struct OpsSettings = "ops" {
        /// Where to listen. Port 0 takes a free one.
        listen: SocketAddr = (Ipv4Addr::UNSPECIFIED, 9090).into(),
    }
}

choice! {
    /// Who may create users.
    pub enum Registration {
        /// Anybody.
        Open = "open",
        /// Nobody.
        Closed = "closed",
    }
}

section! {
    /// Users and tokens.
    pub struct AuthSettings = "auth" {
        /// Whether anybody may register.
        registration: Registration = Registration::Open,
        /// Secret that signs our tokens (HS256), at least 32 bytes; the same on every gateway.
        /// `openssl rand -base64 48` makes a good one.
        secret: Secret = Secret::default(),
        /// Name (`kid`) of that secret. Change both together.
        key_id: String = "main".to_owned(),
        /// Secrets that still verify but no longer sign, as tables of `kid` and `secret`: put the old one
        /// here for as long as its tokens live.
        previous_secrets: Vec<NamedSecret> = Vec::new(),
        /// Others whose tokens are taken, as tables of `issuer`, `algorithm` (`EdDSA`, `RS256`), `audience`
        /// (default `auth.audience`), and either `jwks_file` (read again every minute), or `kid` with
        /// `public_key_file` (PEM). The `sub` of a token must be the id of a user.
        trusted_issuers: Vec<TrustedIssuer> = Vec::new(),
        /// `iss` of our tokens.
        issuer: String = "tidegate".to_owned(),
        /// `aud` of our tokens.
        audience: String = "tidegate".to_owned(),
        /// How long a token lives.
        token_ttl: Duration = seconds(24 * 3600) => seconds(60)..=seconds(30 * 24 * 3600),
        /// How far the clocks of issuers may be off.
        leeway: Duration = seconds(5) => seconds(0)..=seconds(60),
        /// Passwords hashed at a time, each takes a core for 20 ms and 19 MiB. Without it: half the cores.
        password_workers: Option<u32> = None,
        /// Requests that may wait for that; the next one is `rate_limited`.
        password_queue: u32 = 64 => 1..=10_000,
        /// Log-ins per minute and account, over all nodes.
        attempts_per_account: u32 = 10 => 1..=1_000_000,
        /// Log-ins and registrations per minute and client address, over all nodes.
        attempts_per_address: u32 = 60 => 1..=1_000_000,
    }
}

section! {
    /// Sockets.
    pub struct SessionSettings = "session" {
        /// Time between two pings.
        ping_interval: Duration = seconds(25) => Duration::from_millis(100)..=seconds(3600),
        /// A socket that shows no sign of life for this many intervals is closed with 4408.
        max_missed: u32 = 3 => 1..=100,
        /// How long a socket without a token may take to send one.
        auth_timeout: Duration = seconds(10) => Duration::from_millis(100)..=seconds(300),
        /// Largest frame and message; above it a socket is closed with 1009.
        max_frame: Size = Size::kib(64) => Size::kib(1)..=Size::mib(16),
        /// Frames per second a socket may send.
        frames_per_second: u32 = 50 => 1..=1_000_000,
        /// Frames it may send at once after a pause.
        frames_burst: u32 = 150 => 1..=1_000_000,
        /// Sockets of one user; the oldest goes when there is one more.
        max_per_user: u32 = 10 => 1..=10_000,
        /// Frames that may wait for a socket; then it reads on from the log when it has room.
        outgoing_frames: u32 = 256 => 16..=65_536,
        /// Bytes that may wait for a socket.
        outgoing_bytes: Size = Size::mib(1) => Size::kib(64)..=Size::mib(256),
        /// A socket that takes nothing for this long is closed with 4410.
        slow_close: Duration = seconds(30) => Duration::from_millis(100)..=seconds(3600),
        /// Sockets of this process; above it upgrades are refused with 503.
        max_sockets: u32 = 100_000 => 1..=10_000_000,
        /// Upgrades per second of this process; above it they are refused with 503 and `Retry-After`.
        handshakes_per_second: u32 = 500 => 1..=1_000_000,
    }
}

section! {
    /// Commands and their delivery.
    pub struct DeliverySettings = "delivery" {
        /// What `accepted` means where a request does not ask for more: `memory` (Redis answered), `durable`
        /// (it survives one failure) or `stored` (it is in Postgres).
        durability: Durability = Durability::Durable,
        /// Most entries of a log that are sent to a socket and not yet confirmed by it.
        window: u32 = 256 => 1..=65_536,
        /// How often it is written which devices have received which broadcasts, and how far they have read
        /// large conversations; at once for one that disconnects. Sooner costs Redis a write per device and
        /// interval.
        receipt_interval: Duration = seconds(30) => Duration::from_millis(100)..=seconds(600),
        /// Requests per second with which a user may create or change something, over all nodes.
        requests_per_second: u32 = 20 => 1..=1_000_000,
        /// Such requests at once after a pause.
        requests_burst: u32 = 60 => 1..=1_000_000,
        /// Direct commands per second that a user may create, over all nodes. They count as requests, too.
        commands_per_second: u32 = 20 => 1..=1_000_000,
        /// Direct commands at once after a pause.
        commands_burst: u32 = 60 => 1..=1_000_000,
        /// Broadcasts per minute that a user may create, over all nodes. They count as requests, too.
        broadcasts_per_minute: u32 = 30 => 1..=1_000_000,
        /// Broadcasts at once after a pause.
        broadcasts_burst: u32 = 10 => 1..=1_000_000,
    }
}

section! {
    /// What administrators manage.
    pub struct DirectorySettings = "directory" {
        /// Categories that a new deployment begins with: each 1 to 32 of `[a-z0-9_-]`. Read by the first
        /// gateway that finds none; from then on administrators manage them.
        categories: Vec<String> = ["general", "mild", "censored", "feet", "adult", "extreme"].map(str::to_owned).to_vec(),
    }
}

choice! {
    /// What becomes of markup in messages.
    pub enum Markup {
        /// What could do harm is taken out where a message is shown; it is kept as it was sent.
        Sanitised = "sanitised",
        /// Messages are shown as they were sent; clients see to it that they do no harm.
        Untouched = "untouched",
    }
}

section! {
    /// What is said in conversations.
    pub struct MessagesSettings = "messages" {
        /// How long whoever sent a message may change or delete it.
        edit_window: Duration = seconds(15 * 60) => seconds(0)..=seconds(365 * 24 * 3600),
        /// HTML in what is shown: `sanitised` or `untouched`.
        markup: Markup = Markup::Sanitised,
    }
}

choice! {
    /// Who may see how others appear; everybody sees themselves.
    pub enum PresenceVisibility {
        /// Every user.
        Anyone = "anyone",
        /// Who takes part in a conversation with them that is not archived.
        Contacts = "contacts",
        /// No other user.
        Nobody = "nobody",
    }
}

section! {
    /// Who is there.
    pub struct PresenceSettings = "presence" {
        /// Who may see how a user appears: `anyone`, `contacts` (people who share a conversation with them) or
        /// `nobody` else.
        visibility: PresenceVisibility = PresenceVisibility::Contacts,
        /// How long a user whose last socket ended is not taken for gone.
        grace: Duration = seconds(5) => Duration::from_millis(100)..=seconds(600),
        /// A socket whose client sends nothing for this long is not in use (pongs do not count); a user whose
        /// sockets are all like that is away.
        away_after: Duration = seconds(300) => Duration::from_millis(100)..=seconds(24 * 3600),
    }
}

section! {
    /// Calls between two users: who finds whom; what they transmit does not come through here.
    pub struct CallsSettings = "calls" {
        /// How long the callee has to answer.
        ring_timeout: Duration = seconds(45) => seconds(1)..=seconds(600),
        /// How long a device in a call may be away before the call ends.
        reconnect_grace: Duration = seconds(5) => Duration::from_millis(100)..=seconds(60),
        /// Longest session description (SDP).
        max_sdp: Size = Size::kib(32) => Size::kib(1)..=Size::mib(1),
        /// Longest ICE candidate.
        max_candidate: Size = Size::kib(4) => Size::kib(1)..=Size::kib(64),
    }
}

section! {
    /// Stopping.
    pub struct DrainSettings = "drain" {
        /// How long new sockets are still taken after `/ready` has turned to 503, so that load balancers notice.
        lb_grace: Duration = seconds(5) => seconds(0)..=seconds(300),
        /// Time over which the sockets are closed, each at a moment of its own.
        window: Duration = seconds(30) => seconds(0)..=seconds(3600),
    }
}

settings! {
    /// All settings of the gateway.
    pub struct Settings {
        http: HttpSettings,
        ops: OpsSettings,
        node: NodeSettings,
        redis: RedisSettings,
        postgres: PostgresSettings,
        auth: AuthSettings,
        session: SessionSettings,
        delivery: DeliverySettings,
        directory: DirectorySettings,
        drain: DrainSettings,
        messages: MessagesSettings,
        presence: PresenceSettings,
        calls: CallsSettings,
        conversations: ConversationsSettings,
        contents: ContentsSettings,
        log: LogSettings,
    }
    elsewhere: &["persist", "retention", "jobs"];
    check: check;
}

settings! {
    /// What `gateway migrate` and `gateway create-admin` need of them: they ask for no secret they do not use.
    pub struct MigrateSettings {
        postgres: PostgresSettings,
        log: LogSettings,
    }
    elsewhere: &[
        "http", "ops", "node", "redis", "auth", "session", "delivery", "directory", "drain",
        "messages", "presence", "calls", "conversations", "contents", "persist", "retention", "jobs",
    ];
    check: |settings, problems| {
        settings.log.check(problems);
        settings.postgres.check(problems);
    };
}

/// Shorter secrets can be guessed: HS256 wants as many bits as its hash has (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;

fn check(settings: &Settings, problems: &mut Problems) {
    settings.log.check(problems);
    settings.redis.check(problems);
    settings.postgres.check(problems);
    settings.contents.check(problems);
    let auth = &settings.auth;
    let secrets = std::iter::once(("auth.secret", &auth.secret)).chain(
        auth.previous_secrets
            .iter()
            .map(|named| ("auth.previous_secrets", &named.secret)),
    );
    for (name, secret) in secrets {
        match secret.expose().len() {
            0 => problems.add(
                name,
                "is not set; `openssl rand -base64 48` makes a good one",
            ),
            n if n < MIN_SECRET_BYTES => {
                problems.add(
                    name,
                    format!("must have at least {MIN_SECRET_BYTES} bytes, it has {n}"),
                );
            }
            _ => {}
        }
    }
    if auth.key_id.is_empty() {
        problems.add("auth.key_id", "must not be empty");
    }
    if let Err(wrong) = shared::auth::check_issuers(&auth.trusted_issuers, &auth.audience) {
        problems.add("auth.trusted_issuers", wrong);
    }
    let http = &settings.http;
    for origin in http.allowed_origins.iter().filter(|one| !is_origin(one)) {
        if origin != "*" {
            problems.add(
                "http.allowed_origins",
                format!("{origin} is no origin like https://app.example.com"),
            );
        }
    }
    for node in http.nodes.iter().filter(|one| !is_origin(one)) {
        problems.add(
            "http.nodes",
            format!("{node} is no URL like https://gw-1.example.com, without a path"),
        );
    }
    if let Err(wrong) = shared::auth::Networks::parse(&settings.http.trusted_proxies) {
        problems.add(
            "http.trusted_proxies",
            format!("{wrong} is no address or network like 10.0.0.0/8"),
        );
    }
    for name in &settings.directory.categories {
        if let Err(wrong) = name.parse::<Category>() {
            problems.add("directory.categories", format!("{name}: {wrong}"));
        }
    }
    if settings.session.frames_burst < settings.session.frames_per_second {
        problems.add(
            "session.frames_burst",
            "must not be less than session.frames_per_second",
        );
    }
    check_limits(&settings.delivery, problems);
}

/// What comes back within a second must have room, or part of the rate would be lost.
fn check_limits(delivery: &DeliverySettings, problems: &mut Problems) {
    if delivery.requests_burst < delivery.requests_per_second {
        problems.add(
            "delivery.requests_burst",
            "must not be less than delivery.requests_per_second",
        );
    }
    if delivery.commands_burst < delivery.commands_per_second {
        problems.add(
            "delivery.commands_burst",
            "must not be less than delivery.commands_per_second",
        );
    }
    if delivery.broadcasts_burst < delivery.broadcasts_per_minute.div_ceil(60) {
        problems.add(
            "delivery.broadcasts_burst",
            "must not be less than a 60th of delivery.broadcasts_per_minute",
        );
    }
}

/// `some-thing` becomes `Some thing`.
fn title_of(name: &str) -> String {
    let text = name.replace(['-', '_'], " ");
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// `https://host` or `http://host`, perhaps with a port, and nothing behind it.
fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', ' ', ';']))
}

impl Settings {
    /// The categories of a new deployment with their first titles.
    pub fn first_categories(&self) -> Vec<(Category, String)> {
        let names = self.directory.categories.iter();
        names
            .filter_map(|name| Some((name.parse().ok()?, title_of(name))))
            .collect()
    }

    /// What is allowed but unwise, by the name of the setting: logged when the process starts.
    pub fn warnings(&self) -> Vec<(&'static str, &'static str)> {
        let mut warnings = Vec::new();
        if self.http.allowed_origins.iter().any(|origin| origin == "*") {
            warnings.push((
                "http.allowed_origins",
                "any page may open sockets; cookies do not count",
            ));
        }
        if self.delivery.durability == Durability::Memory {
            warnings.push((
                "delivery.durability",
                "accepted commands are lost when Redis fails",
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use shared::config::Settings as _;

    use super::*;

    #[test]
    fn a_burst_has_room_for_what_comes_back_in_a_second() {
        let wrong = |change: fn(&mut DeliverySettings)| {
            let mut delivery = Settings::default().delivery;
            change(&mut delivery);
            let mut problems = Problems::default();
            check_limits(&delivery, &mut problems);
            problems.to_string()
        };
        assert_eq!(wrong(|_| {}), "");
        assert!(wrong(|delivery| delivery.requests_burst = 19).contains("requests_burst"));
        assert!(wrong(|delivery| delivery.commands_burst = 19).contains("commands_burst"));
        assert_eq!(wrong(|delivery| delivery.broadcasts_per_minute = 600), "");
        let many = wrong(|delivery| delivery.broadcasts_per_minute = 601);
        assert!(many.contains("broadcasts_burst"));
    }

    #[test]
    fn migrating_passes_over_every_section_it_does_not_need() {
        let mine: Vec<_> = MigrateSettings::sections()
            .iter()
            .map(|section| section.name)
            .collect();
        let known = |name: &str| mine.contains(&name) || MigrateSettings::ELSEWHERE.contains(&name);
        for section in Settings::sections() {
            assert!(known(section.name), "{}", section.name);
        }
        for section in Settings::ELSEWHERE {
            assert!(known(section), "{section}");
        }
    }
}
