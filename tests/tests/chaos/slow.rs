//! Clients that stop reading while entries pour in. What they do not take waits in the log, not in
//! the gateway; nobody else notices.
#![cfg(target_os = "linux")]

use std::time::Duration;

use testkit::{Deployment, Node, Socket, eventually, socket::Closed, wait::PATIENCE};
use tokio::time::{Instant, sleep};

use super::{Load, LoadSize, TURN, judged, loaded, unlimited};
use crate::support::{expect_content, send};

const MIB: u64 = 1024 * 1024;
const STUCK: usize = 4;

/// Entries so long that a window of unconfirmed ones is more than the kernel keeps for a socket.
fn heavy() -> LoadSize {
    LoadSize {
        senders: 4,
        recipients: 1,
        devices: 2,
        pause: Duration::from_millis(5),
        each: None,
        padding: 24 * 1024,
    }
}

/// Another device of the recipient, whose kernel keeps little for it.
async fn device(tidegate: &Deployment, load: &Load, name: &str) -> Socket {
    let options = load.device(0, name).receive_buffer(4096);
    tidegate.connect_with(0, options).await.0
}

/// The same for the first time, which gets everything there is.
async fn new_device(tidegate: &Deployment, load: &Load, name: &str) -> Socket {
    let options = load.device(0, name).receive_buffer(4096);
    tidegate
        .connect_with(0, options.query("after", "0:0"))
        .await
        .0
}

/// Resident memory of a process, in bytes.
fn memory(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.process().pid()));
    let status = status.expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("kB") * 1024
}

/// How long one of twenty commands takes from the sender to the receiver's socket and back, usually.
async fn usual_delay(from: &Socket, to: &Socket, receiver: &testkit::User) -> Duration {
    let mut delays = Vec::new();
    for n in 0..20 {
        let began = Instant::now();
        let content = format!("{n}");
        send(from, receiver, &content).await;
        expect_content(to, &content).await;
        delays.push(began.elapsed());
    }
    delays.sort();
    delays[delays.len() / 2]
}

#[tokio::test]
async fn clients_that_stop_reading_harm_nobody_and_catch_up_by_their_cursors() {
    let _turn = TURN.lock().await;
    let tidegate = Deployment::start_with(unlimited()).await;
    let load = loaded(tidegate, heavy(), async |tidegate, load| {
        let gateway = &tidegate.gateways[0];
        let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
        let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
        let (bob_socket, _) = tidegate.connect(0, &bob, "phone").await;
        let mut stuck = Vec::new();
        for n in 0..STUCK {
            stuck.push(new_device(tidegate, load, &format!("stuck{n}")).await);
        }
        load.flows(200).await;
        let delay = usual_delay(&ann_socket, &bob_socket, &bob).await;
        let (resident, catch_ups) = (memory(gateway), catch_ups(gateway).await);

        for socket in &stuck {
            socket.set_reading(false);
        }
        // Thirty megabytes for each of them.
        load.flows(1200).await;
        let slower = usual_delay(&ann_socket, &bob_socket, &bob).await;
        let grown = memory(gateway).saturating_sub(resident);
        eprintln!("usual delay {delay:?}, then {slower:?}; {grown} bytes more");
        assert!(
            slower < delay * 3 + Duration::from_millis(50),
            "{delay:?} became {slower:?}"
        );
        // A queue of 1 MiB at most for each, and the end of the log, which they share.
        assert!(grown < (STUCK as u64 + 10) * MIB, "{grown} bytes more");

        for socket in &stuck {
            socket.set_reading(true);
        }
        eventually("they read for themselves", PATIENCE, || async {
            (self::catch_ups(gateway).await >= catch_ups + STUCK as f64).then_some(())
        })
        .await;
        load.keep(stuck);
    })
    .await;
    judged(load).await;
}

async fn catch_ups(gateway: &Node) -> f64 {
    let count = gateway.metric("tidegate_fanout_catch_ups_total").await;
    count.unwrap_or_default()
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed_with_4410_and_resumes() {
    let _turn = TURN.lock().await;
    let plan = unlimited().with("TIDEGATE_SESSION__SLOW_CLOSE", "2s");
    let tidegate = Deployment::start_with(plan).await;
    let load = loaded(tidegate, heavy(), async |tidegate, load| {
        let mut stuck = new_device(tidegate, load, "stuck").await;
        let mut wait = Duration::from_secs(4);
        // The close frame is written as soon as there is room, but for no longer than five seconds. How
        // long it takes until nothing more fits is not ours to see, so the wait is found by trying.
        let end = loop {
            load.flows(20).await;
            stuck.set_reading(false);
            sleep(wait).await;
            stuck.set_reading(true);
            match stuck.closed_by(Duration::from_secs(2)).await {
                None => wait += Duration::from_secs(1),
                Some(Closed::Lost(_)) if wait > Duration::from_secs(2) => {
                    wait -= Duration::from_millis(500);
                    stuck = device(tidegate, load, "stuck").await;
                }
                Some(end) => break end,
            }
        };
        assert_eq!(end, Closed::Frame(4410, "slow consumer".to_owned()));
        load.flows(100).await;
        load.keep(vec![device(tidegate, load, "stuck").await]);
    })
    .await;
    judged(load).await;
}
