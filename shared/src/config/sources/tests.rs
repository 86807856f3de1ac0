use std::time::Duration;

use super::super::*;

crate::section! {
    /// For tests.
    pub struct Session = "session" {
        /// Time between two pings.
        ping_interval: Duration = Duration::from_secs(25) => Duration::from_secs(1)..=Duration::from_hours(1),
        /// Names.
        names: Vec<String> = Vec::new(),
        /// Signs.
        secret: Secret = Secret::default(),
    }
}

crate::settings! {
    struct Small {
        session: Session,
        redis: RedisSettings,
        log: LogSettings,
    }
    elsewhere: &["persist", "redis"];
    check: |settings, problems| {
        if settings.session.secret.expose() == "weak" {
            problems.add("session.secret", "is too short");
        }
    };
}

fn environment(variables: &[(&str, &str)]) -> Result<Small, Problems> {
    load(&Sources {
        environment: variables
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        ..Sources::default()
    })
}

fn file(text: &str) -> Sources {
    let path =
        std::env::temp_dir().join(format!("tidegate-settings-{}.toml", uuid::Uuid::now_v7()));
    std::fs::write(&path, text).unwrap();
    Sources {
        file: Some(path),
        ..Sources::default()
    }
}

fn one(problems: Problems) -> Problem {
    assert_eq!(problems.0.len(), 1, "{problems}");
    problems.0.into_iter().next().unwrap()
}

#[test]
fn later_sources_win() {
    let mut sources = file(
        "[session]\nping_interval = '1m'\nnames = ['a', 'b']\n[log]\nlevel = 'warn'\n[redis]\npartitions = 8",
    );
    sources.environment = vec![
        ("TIDEGATE_SESSION__PING_INTERVAL".into(), "2m".into()),
        ("TIDEGATE_LOG__LEVEL".into(), "error".into()),
        ("TIDEGATE_REDIS__URL".into(), "redis://long".into()),
        ("TIDEGATE_REDIS_URL".into(), "redis://short".into()),
        ("TIDEGATE_SERVICE_HOST".into(), "10.0.0.1".into()),
        ("TIDEGATE_REDIS__MEMORY_LIMIT".into(), String::new()),
    ];
    sources.flags = vec!["log.level=debug".into()];
    let settings: Small = load(&sources).unwrap();
    assert_eq!(settings.session.ping_interval, Duration::from_mins(2));
    assert_eq!(settings.session.names, ["a", "b"]);
    assert_eq!(settings.log.level, "debug");
    assert_eq!(settings.redis.partitions, 8);
    assert_eq!(settings.redis.url.expose(), "redis://long");
    assert_eq!(settings.redis.max_in_flight, 512);
}

#[test]
fn an_unknown_setting_names_the_nearest() {
    let problem = one(environment(&[("TIDEGATE_SESSION__PING_INTERVALL", "2m")]).unwrap_err());
    assert_eq!(problem.setting, "session.ping_intervall");
    assert!(
        problem
            .message
            .contains("did you mean session.ping_interval?"),
        "{}",
        problem.message
    );
    assert!(problem.message.contains("TIDEGATE_SESSION__PING_INTERVALL"));

    let problem = one(load::<Small>(&file("[sesion]\nping_interval = '2m'")).unwrap_err());
    assert!(
        problem.message.contains("session.ping_interval"),
        "{}",
        problem.message
    );

    let problem = one(load::<Small>(&file("level = 'info'")).unwrap_err());
    assert_eq!(problem.setting, "level");
}

#[test]
fn a_bad_value_names_its_setting_and_never_shows_a_secret() {
    let problems = environment(&[
        ("TIDEGATE_SESSION__PING_INTERVAL", "soon"),
        ("TIDEGATE_REDIS__PARTITIONS", "0"),
        ("TIDEGATE_LOG__FORMAT", "xml"),
    ])
    .unwrap_err()
    .to_string();
    for line in [
        "session.ping_interval: expected a duration",
        "redis.partitions: must be 1 to 16384",
        "log.format: expected one of auto, json, pretty",
    ] {
        assert!(problems.contains(line), "{problems}");
    }

    let problem = one(load::<Small>(&file("[session]\nsecret = 'swordfish\n")).unwrap_err());
    assert!(
        !problem.message.contains("swordfish"),
        "{}",
        problem.message
    );
    let problem = one(environment(&[("TIDEGATE_SESSION__SECRET", "weak")]).unwrap_err());
    assert_eq!(
        (problem.setting.as_str(), problem.message.as_str()),
        ("session.secret", "is too short")
    );
}

#[test]
fn a_secret_may_come_from_a_file() {
    let path = std::env::temp_dir().join(format!("tidegate-secret-{}", uuid::Uuid::now_v7()));
    std::fs::write(&path, "swordfish\n").unwrap();
    let path = path.to_str().unwrap();
    let settings = environment(&[
        ("TIDEGATE_SESSION__SECRET_FILE", path),
        ("TIDEGATE_REDIS_URL_FILE", path),
    ])
    .unwrap();
    assert_eq!(settings.session.secret.expose(), "swordfish");
    assert_eq!(settings.redis.url.expose(), "swordfish");
    assert!(!format!("{settings:?}{}", settings.render()).contains("swordfish"));

    let problem = one(environment(&[("TIDEGATE_SESSION__SECRET_FILE", "/nowhere")]).unwrap_err());
    assert_eq!(problem.setting, "session.secret_file");
    // Only a secret has a file.
    let problem = one(environment(&[("TIDEGATE_SESSION__NAMES_FILE", path)]).unwrap_err());
    assert!(problem.message.contains("no such setting"));
}

#[test]
fn sections_of_other_processes_are_passed_over() {
    environment(&[("TIDEGATE_PERSIST__BATCH_ROWS", "7")]).unwrap();
    // A section both have is checked.
    one(environment(&[("TIDEGATE_REDIS__BATCH_ROWS", "7")]).unwrap_err());
}

#[test]
fn what_is_rendered_is_read_back() {
    let text = Small::default().render().to_string();
    let settings: Small = load(&file(&text)).unwrap();
    assert_eq!(settings.render().to_string(), text);
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let missing = Sources {
        file: Some("/nowhere.toml".into()),
        ..Sources::default()
    };
    assert_eq!(
        one(load::<Small>(&missing).unwrap_err()).setting,
        "/nowhere.toml"
    );
    let problem = one(load::<Small>(&file("[session\n")).unwrap_err());
    assert!(problem.message.contains("not valid TOML"));
    let problem = one(load::<Small>(&Sources {
        flags: vec!["log.level".into()],
        ..Sources::default()
    })
    .unwrap_err());
    assert_eq!(problem.setting, "log.level");
}
