//! What `make run` starts: what it prints, what it leaves behind, what it finds again.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use serde_json::json;
use testkit::{
    Process, Socket, SocketOptions, binaries, eventually,
    guardian::{End, guardian},
    node::clean_environment,
    ports::free_port,
    rest::Rest,
    wait::PATIENCE,
};

const VARIABLES: [&str; 5] = [
    "TIDEGATE_HTTP_PORT_1",
    "TIDEGATE_HTTP_PORT_2",
    "TIDEGATE_OPS_PORT_1",
    "TIDEGATE_OPS_PORT_2",
    "TIDEGATE_WORKER_OPS_PORT",
];

fn start(checkout: &Path, ports: [u16; 5]) -> Process {
    let mut command = Command::new(binaries::product("tidegate-dev"));
    clean_environment(&mut command);
    let ports = ports.map(|port| port.to_string());
    command
        .current_dir(checkout)
        .envs(VARIABLES.iter().zip(&ports));
    let log = guardian().folder("dev").join("dev.log");
    Process::spawn_alone("tidegate-dev", command, &log, End::Term).unwrap()
}

async fn until_running(dev: &Process) -> String {
    let text = eventually("everything runs", PATIENCE * 3, || async {
        let text = dev.log();
        (dev.exited().is_some() || text.contains("Ctrl-C stops everything")).then_some(text)
    })
    .await;
    assert!(dev.exited().is_none(), "it ended:\n{text}");
    text
}

/// Ctrl-C. What it had started and printed has ended by then, too.
async fn interrupt(dev: &Process, text: &str) -> ExitStatus {
    let mut pids = descendants(dev.pid());
    let printed = text.split("pid ").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
        rest[..end].parse::<u32>().unwrap()
    });
    let printed: Vec<u32> = printed.collect();
    assert_eq!(printed.len(), 5, "{text}");
    assert!(printed.iter().all(|pid| pids.contains(pid)), "{text}");
    pids.extend(printed);
    dev.ctrl_c();
    let status = dev.wait(PATIENCE * 3).await;
    eventually("nothing is left", PATIENCE, || async {
        let left = processes();
        pids.iter()
            .all(|pid| left.iter().all(|(other, _)| other != pid))
            .then_some(())
    })
    .await;
    status
}

/// All processes that have not ended, with their parents.
fn processes() -> Vec<(u32, u32)> {
    let output = Command::new("ps")
        .args(["-A", "-o", "pid=,ppid=,stat="])
        .output();
    let output = output.expect("ps is installed");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (pid, parent) = (words.next()?, words.next()?);
            let ended = words.next()?.starts_with('Z');
            (!ended).then_some((pid.parse().ok()?, parent.parse().ok()?))
        })
        .collect()
}

fn descendants(of: u32) -> BTreeSet<u32> {
    let processes = processes();
    let mut found = BTreeSet::from([of]);
    loop {
        let before = found.len();
        for (pid, parent) in &processes {
            if found.contains(parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

async fn connect(port: u16, token: &str) -> Socket {
    let options = SocketOptions::bearer(token).device("phone");
    let opened = Socket::open(([127, 0, 0, 1], port).into(), options).await;
    let socket = opened.unwrap();
    socket.expect("connected").await;
    socket
}

async fn token_of(port: u16, name: &str) -> (String, String) {
    let rest = Rest::new(format!("http://127.0.0.1:{port}"));
    let password = format!("{name}-dev-password");
    let answer = rest.login(name, &password).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = |field: &str| answer.body[field].as_str().unwrap().to_owned();
    (text("userId"), text("token"))
}

#[tokio::test]
async fn make_run_serves_ends_without_a_trace_and_finds_its_data_again() {
    let checkout = guardian().folder("checkout");
    let ports = [(); 5].map(|()| free_port());
    let [first, second, ops_1, ops_2, worker_ops] = ports;
    let dev = start(&checkout, ports);
    let text = until_running(&dev).await;
    for port in ports {
        assert!(text.contains(&format!("http://localhost:{port}")), "{text}");
    }
    for url in ["redis://", "postgres://"] {
        assert!(text.contains(url), "{text}");
    }
    for port in [ops_1, ops_2, worker_ops] {
        let rest = Rest::new(format!("http://127.0.0.1:{port}"));
        assert_eq!(rest.get("/ready").await.unwrap().status, 200);
    }
    let (_, alice) = token_of(first, "alice").await;
    let (bob_id, bob) = token_of(second, "bob").await;
    let sender = connect(first, &alice).await;
    let recipient = connect(second, &bob).await;
    let payload = json!({"commandType": "message", "content": "kept", "broadcast": "user", "targetUser": bob_id, "categories": []});
    let reply = sender.request("command.create", payload).await;
    assert_eq!(reply["type"], "command.accepted", "{reply}");
    recipient.expect("command.new").await;
    let status = interrupt(&dev, &text).await;
    assert!(status.success(), "{status}:\n{}", dev.log());
    drop((sender, recipient));

    let dev = start(&checkout, ports);
    let text = until_running(&dev).await;
    // The token of before is good as well.
    let recipient = connect(first, &bob).await;
    let page = recipient.request("command.queue", json!({})).await;
    let commands = page["payload"]["commands"].as_array().unwrap();
    assert_eq!(commands.len(), 1, "{page}");
    assert_eq!(commands[0]["content"], "kept", "{page}");
    drop(recipient);
    interrupt(&dev, &text).await;
}

#[tokio::test]
async fn make_run_names_the_variable_of_a_port_that_is_taken() {
    let checkout = guardian().folder("checkout");
    for (place, variable) in VARIABLES.iter().enumerate() {
        let ports = [(); 5].map(|()| free_port());
        let _taken = TcpListener::bind(("127.0.0.1", ports[place])).unwrap();
        let dev = start(&checkout, ports);
        let status = dev.wait(Duration::from_secs(20)).await;
        assert!(!status.success());
        let named = format!("set {variable} to a free one");
        assert!(dev.log().contains(&named), "{}", dev.log());
    }
}
