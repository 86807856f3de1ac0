//! A group of two hundred on three gateways, twenty of whom talk while something breaks. In the end
//! every member's device and every inbox have what was said, once and in order, and nobody else has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use testkit::{
    Deployment, History, Node, SocketOptions, User, Verdict, checker::Senders, eventually, within,
};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use super::{Backing, Plan, RedisKind, TURN, rejoins, times, unlimited};
use crate::{
    conversations::group,
    crowd::{insert, member},
    persistent::{PAUSE, Receiver, Sender},
};

const MEMBERS: usize = 200;
const SENDERS: usize = 20;
/// Between two messages of a sender: a message is two hundred copies, each of which is sent.
const THINKING: Duration = Duration::from_secs(1);
/// How long it may take until everybody has everything.
const LONG: Duration = Duration::from_secs(90);
/// Handshakes at a time.
const AT_ONCE: usize = 32;
/// The group, in the history.
const GROUP: &str = "the group";

struct Chat {
    tidegate: Arc<Deployment>,
    history: History,
    conversation: String,
    senders: Vec<JoinHandle<()>>,
    receivers: Vec<JoinHandle<()>>,
    stop_sending: Arc<AtomicBool>,
    stop_receiving: Arc<AtomicBool>,
}

impl Chat {
    /// Everybody is there, and an outsider; nobody talks yet.
    async fn start(plan: Plan) -> Self {
        let tidegate = Arc::new(Deployment::start_with(plan.gateways(3)).await);
        insert(&tidegate.database, MEMBERS + 1).await;
        let members: Vec<User> = (0..MEMBERS).map(member).collect();
        let all: Vec<&User> = members.iter().collect();
        let conversation = group(&tidegate, &all).await;
        let history = History::new();
        history.group(GROUP, members.iter().map(|user| user.name.clone()));
        let mut chat = Self {
            tidegate,
            history,
            conversation,
            senders: Vec::new(),
            receivers: Vec::new(),
            stop_sending: Arc::default(),
            stop_receiving: Arc::default(),
        };
        chat.connect().await;
        chat
    }

    /// A device of each member and of the outsider.
    async fn connect(&mut self) {
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let mut opening = JoinSet::new();
        for n in 0..=MEMBERS {
            let receiver = Receiver {
                deployment: self.tidegate.clone(),
                history: self.history.clone(),
                user: member(n),
                device: "phone".to_owned(),
                stop: self.stop_receiving.clone(),
            };
            let gate = gate.clone();
            opening.spawn(async move {
                let _turn = gate.acquire().await.expect("never closed");
                let options: SocketOptions = receiver.options();
                let (socket, _) = receiver.deployment.connect_with(n % 3, options).await;
                (n, receiver, socket)
            });
        }
        for (n, receiver, socket) in opening.join_all().await {
            self.receivers
                .push(tokio::spawn(receiver.run(Some(socket), n + 1)));
        }
    }

    /// Twenty members begin to talk, at all gateways.
    fn talk(&mut self) {
        for n in 0..SENDERS {
            let user = member(n * MEMBERS / SENDERS);
            let mut sender = Sender::new(self.tidegate.clone(), &user, n);
            let (history, stop) = (self.history.clone(), self.stop_sending.clone());
            let conversation = self.conversation.clone();
            self.senders.push(tokio::spawn(async move {
                // Not all at the same moment.
                sleep(THINKING * n as u32 / SENDERS as u32).await;
                while !stop.load(Ordering::Relaxed) {
                    let asking = history.ask(&user.name, GROUP);
                    let payload = json!({"conversationId": conversation, "message": asking.mark()});
                    sender.ask(&asking, "chat.message", &payload).await;
                    sleep(THINKING).await;
                }
            }));
        }
    }

    /// Waits until this many more messages are promised.
    async fn flows(&self, more: usize) {
        let before = self.history.promised();
        eventually("the talk goes on", LONG, || async {
            (self.history.promised() >= before + more).then_some(())
        })
        .await;
    }

    /// Ends the talk; every sender has its answer.
    async fn fall_silent(&mut self) {
        self.stop_sending.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            within("every sender has its answers", LONG, sender)
                .await
                .expect("senders do not panic");
        }
    }

    /// Waits until everything that was promised is where it belongs, and judges.
    async fn judge(mut self) {
        self.fall_silent().await;
        let promised = self.history.promised();
        let began = Instant::now();
        // Not `eventually`: what is missing then is for the verdict to say.
        let rows = loop {
            let (copies, rows) = (self.copies().await, self.messages().await);
            let is_written = copies >= promised * MEMBERS && rows.len() >= promised;
            let is_complete = is_written && {
                let verdict = self.history.verdict(Senders::OneAtATime, None);
                verdict.lost.is_empty()
            };
            if is_complete || began.elapsed() > LONG {
                break rows;
            }
            sleep(PAUSE * 5).await;
        };
        eprintln!(
            "{promised} messages promised; all was in place {:?} after the last",
            began.elapsed()
        );
        self.stop_receiving.store(true, Ordering::Relaxed);
        for receiver in self.receivers.drain(..) {
            receiver.await.expect("receivers do not panic");
        }
        let mut verdict: Verdict = self.history.verdict(Senders::OneAtATime, Some(&rows));
        let inboxes = self.inboxes().await;
        self.history.judge_inboxes(&mut verdict, &inboxes);
        verdict.assert_clean();
    }

    /// Id and content of what people said.
    async fn messages(&self) -> Vec<(String, String)> {
        self.pairs("SELECT id, content FROM messages WHERE sender_type IS DISTINCT FROM 'SYSTEM'")
            .await
    }

    /// User and message of every row of an inbox that is about what people said.
    async fn inboxes(&self) -> Vec<(String, String)> {
        self.pairs(
            "SELECT username, message_id FROM inbox JOIN users ON users.id = user_id \
             LEFT JOIN messages ON messages.id = message_id \
             WHERE sender_type IS DISTINCT FROM 'SYSTEM'",
        )
        .await
    }

    async fn pairs(&self, sql: &str) -> Vec<(String, String)> {
        let rows = self.tidegate.database.query(sql).await;
        rows.into_iter()
            .map(|mut row| (row.remove(0), row.remove(0)))
            .collect()
    }

    /// How many rows of inboxes there are, without those of the server's one message.
    async fn copies(&self) -> usize {
        let rows = self.tidegate.database.count("SELECT count(*) FROM inbox");
        (rows.await as usize).saturating_sub(MEMBERS)
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // Tasks hold the deployment as well, and know of no failure.
        if std::thread::panicking() {
            let verdict = self.history.verdict(Senders::OneAtATime, None);
            eprintln!("at the failure:\n{verdict}");
            self.tidegate.keep_logs();
        }
    }
}

/// The talk, a fault, more talk, and the verdict.
async fn talking(plan: Plan, fault: impl AsyncFnOnce(&mut Chat)) {
    let _turn = TURN.lock().await;
    let mut chat = Chat::start(plan).await;
    chat.talk();
    chat.flows(20).await;
    fault(&mut chat).await;
    chat.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_loses_nothing_when_a_gateway_is_killed() {
    talking(unlimited(), async |chat| {
        for n in 0..times(3, 30) {
            chat.tidegate.gateways[n % 3].restart().await;
            chat.flows(20).await;
        }
        // And all of them, in the middle of making copies: nobody is left to do it but the worker.
        chat.fall_silent().await;
        let gateways = &chat.tidegate.gateways;
        gateways.iter().for_each(Node::kill9);
        let promised = chat.history.promised();
        eventually("every inbox is complete", LONG, || async {
            (chat.copies().await >= promised * MEMBERS).then_some(())
        })
        .await;
        let repaired = "tidegate_message_copies_repaired_total";
        let repaired = chat.tidegate.workers[0].metric(repaired).await;
        // None if the gateways were done before they died; what the worker makes of what is left has
        // tests of its own.
        eprintln!("the worker made {repaired:?} copies");
        for gateway in gateways {
            gateway.start().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_loses_nothing_when_redis_fails_over() {
    talking(unlimited().redis(RedisKind::Sentinel), async |chat| {
        for _ in 0..times(1, 5) {
            let Backing::Sentinel(sentinel) = &chat.tidegate.backing else {
                unreachable!("as planned")
            };
            let old = sentinel.primary().await.expect("a primary");
            sentinel.fail_over().await;
            rejoins(old).await;
            chat.flows(40).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_loses_nothing_when_redis_fails_over_to_who_is_behind() {
    talking(unlimited().redis(RedisKind::Sentinel), async |chat| {
        for _ in 0..times(1, 5) {
            let Backing::Sentinel(sentinel) = &chat.tidegate.backing else {
                unreachable!("as planned")
            };
            let old = sentinel.primary().await.expect("a primary");
            let mut servers = sentinel.servers().iter();
            let behind = servers.find(|it| it.port() != old.port()).expect("two");
            behind.turn_away().await;
            sleep(Duration::from_millis(500)).await;
            sentinel.fail_over().await;
            behind.turn_back().await;
            rejoins(old).await;
            chat.flows(40).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_loses_nothing_when_the_worker_is_killed() {
    talking(unlimited(), async |chat| {
        for n in 0..times(5, 50) {
            // At another moment of its round each time.
            sleep(Duration::from_millis(37 * (n as u64 % 11))).await;
            chat.tidegate.workers[0].restart().await;
            chat.flows(10).await;
        }
    })
    .await;
}
